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

PowerLoss::PowerLoss(std::vector<RecordedEvent> events, std::map<std::string, FileContent> files)
    : events_(std::move(events)), files_(std::move(files)) {}

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
  if (event.kind == CallKind::kWrite || event.kind == CallKind::kTruncate) {
    pending_.push_back({index, event.path});
    if (event.kind == CallKind::kWrite && event.path.ends_with("/metrics.jsonl"))
      acknowledged_ = last_step(event.data);
  } else if (event.kind == CallKind::kSync) {
    std::vector<uint64_t>& covered = covered_[index];
    for (const Pending& write : pending_)
      if (write.done && write.path == event.path) covered.push_back(write.event);
  } else if (event.kind == CallKind::kCreate) {
    files_.try_emplace(event.path);
  }
}

// Of a file, or of a directory with all that is in it.
void PowerLoss::rename(const std::string& from, const std::string& to) {
  const auto renamed = [&](const std::string& path) {
    const bool inside = path == from || path.starts_with(from + "/");
    return inside ? to + path.substr(from.size()) : path;
  };
  std::map<std::string, FileContent> files;
  for (auto& [path, content] : files_) files[renamed(path)] = std::move(content);
  files_ = std::move(files);
  for (Pending& write : pending_) write.path = renamed(write.path);
}

// A flush makes what was complete before it began durable, in the order in which that was written.
void PowerLoss::end(const RecordedEvent& event) {
  std::vector<uint64_t> flushed;
  if (event.kind == CallKind::kRename) {
    rename(events_[event.begun].path, events_[event.begun].target);
  } else if (event.kind == CallKind::kRemove) {
    files_.erase(events_[event.begun].path);
    std::erase_if(pending_, [&](const Pending& write) { return write.path == events_[event.begun].path; });
  } else if (event.kind == CallKind::kSync) {
    flushed = std::move(covered_[event.begun]);
    covered_.erase(event.begun);
  } else {
    for (Pending& write : pending_) write.done = write.done || write.event == event.begun;
    if (events_[event.begun].durable) flushed.push_back(event.begun);
  }
  for (const uint64_t index : flushed) {
    const auto write = std::find_if(pending_.begin(), pending_.end(),
                                    [&](const Pending& each) { return each.event == index; });
    if (write == pending_.end()) continue;  // of a file that was removed
    apply(files_[write->path], events_[index], 0, nullptr);
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

std::map<std::string, FileContent> PowerLoss::lose_power(std::mt19937_64& random) const {
  std::vector<Pending> order = pending_;
  if (random() % 2 == 0) std::shuffle(order.begin(), order.end(), random);
  const uint64_t likely = random() % 5;  // from none to nearly all of them
  std::map<std::string, FileContent> changed;
  for (const Pending& pending : order) {
    if (random() % 4 >= likely) continue;
    const RecordedEvent& write = events_[pending.event];
    const uint64_t grains[] = {0, 0, 512, 4096};
    const auto known = files_.find(pending.path);
    FileContent& file =
        changed.try_emplace(pending.path, known == files_.end() ? FileContent() : known->second)
            .first->second;
    apply(file, write, grains[random() % 4], &random);
  }
  return changed;
}

}  // namespace headrace::testing
