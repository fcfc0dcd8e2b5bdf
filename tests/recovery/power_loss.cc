#include "tests/recovery/power_loss.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace headrace::testing {

namespace {

// Of the lines' last.
uint64_t last_step(const std::vector<std::byte>& lines) {
  const std::string text(reinterpret_cast<const char*>(lines.data()), lines.size()), key = "{\"step\":";
  const size_t at = text.rfind(key);
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + key.size(), nullptr, 10);
}

}  // namespace

PowerLoss::PowerLoss(std::vector<RecordedEvent> events, const std::string& directory)
    : events_(std::move(events)), ended_(events_.size()) {
  tree_.add_directory(directory);
  for (const RecordedEvent& event : events_)
    if (!event.begins) ended_[event.begun] = true;
}

void PowerLoss::advance(size_t count) {
  for (; next_ < count; next_++) {
    if (events_[next_].begins) {
      begin(next_);
    } else {
      end(events_[next_]);
    }
  }
}

void PowerLoss::begin(size_t index) {
  const RecordedEvent& event = events_[index];
  if (!ended_[index]) return;  // it failed, and has changed nothing
  switch (event.kind) {
    case CallKind::kWrite:
    case CallKind::kTruncate:
      if (const FileTree::Node file = tree_.find(event.path); file != FileTree::kNone)
        pending_.push_back({index, file});  // others have no name, and are not there after a loss of power
      if (event.kind == CallKind::kWrite && event.path.ends_with("/metrics.jsonl"))
        acknowledged_ = last_step(event.data);
      break;
    case CallKind::kSync: {
      const FileTree::Node node = tree_.find(event.path);
      Covered& covered = covered_[index];
      for (const Pending& write : pending_)
        if (write.done && write.file == node) covered.writes.push_back(write.event);
      covered.names = tree_.covered_by(node);
      break;
    }
    case CallKind::kCreate:
    case CallKind::kMakeDirectory:
      tree_.make(index, event.path, event.kind == CallKind::kMakeDirectory);
      break;
    case CallKind::kRename:
      tree_.rename(index, event.path, event.target);
      break;
    case CallKind::kLink:
      tree_.link(index, event.path, event.target);
      break;
    case CallKind::kRemove:
      tree_.remove(index, event.path);
      break;
  }
}

// A sync makes sure what was complete before it began.
void PowerLoss::end(const RecordedEvent& event) {
  tree_.done(event.begun);
  for (Pending& write : pending_) write.done = write.done || write.event == event.begun;
  if (events_[event.begun].durable) make_sure({event.begun});
  const auto covered = covered_.find(event.begun);
  if (covered == covered_.end()) return;
  make_sure(covered->second.writes);
  tree_.make_sure(covered->second.names);
  covered_.erase(covered);
}

// In the order in which it was written.
void PowerLoss::make_sure(const std::vector<uint64_t>& writes) {
  for (const uint64_t index : writes) {
    const auto write = std::find_if(pending_.begin(), pending_.end(),
                                    [&](const Pending& each) { return each.event == index; });
    if (write == pending_.end()) continue;  // of a file without a name, or two syncs at once
    apply(contents_[write->file], events_[index], 0, nullptr);
    pending_.erase(write);
  }
}

// Grain 0: the whole write; otherwise each grain of the file that it touches, or not, at random.
void PowerLoss::apply(FileContent& file, const RecordedEvent& write, uint64_t grain_bytes,
                      std::mt19937_64* random) const {
  if (write.kind == CallKind::kTruncate) {
    file.resize(write.offset);
    return;
  }
  const uint64_t end = write.offset + write.data.size();
  for (uint64_t at = write.offset; at < end;) {
    const uint64_t next = grain_bytes == 0 ? end : std::min(end, (at / grain_bytes + 1) * grain_bytes);
    if (random == nullptr || grain_bytes == 0 || (*random)() % 2 == 0) {
      if (file.size() < next) file.resize(next);
      std::memcpy(file.data() + at, write.data.data() + (at - write.offset), next - at);
    }
    at = next;
  }
}

std::map<std::string, std::optional<FileContent>> PowerLoss::lose_power(std::mt19937_64& random) const {
  std::vector<Pending> order = pending_;
  if (random() % 2 == 0) std::shuffle(order.begin(), order.end(), random);
  const uint64_t likely = random() % 5;  // from none to all of them
  std::map<FileTree::Node, FileContent> changed;
  for (const Pending& pending : order) {
    if (random() % 4 >= likely) continue;
    const uint64_t grains[] = {0, 0, 512, 4096};
    const auto known = contents_.find(pending.file);
    FileContent& file =
        changed.try_emplace(pending.file, known == contents_.end() ? FileContent() : known->second)
            .first->second;
    apply(file, events_[pending.event], grains[random() % 4], &random);
  }
  std::map<std::string, std::optional<FileContent>> held;
  for (const auto& [path, node] : tree_.lose_power(random)) {
    std::optional<FileContent>& content = held[path];
    if (tree_.is_directory(node)) continue;
    content = FileContent();
    if (const auto known = contents_.find(node); known != contents_.end()) content = known->second;
    if (const auto found = changed.find(node); found != changed.end()) content = found->second;
  }
  return held;
}

}  // namespace headrace::testing
