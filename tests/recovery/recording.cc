#include "tests/recovery/recording.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <span>

#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::testing {
namespace {

// What stands in the file for an event; then path, target and data.
struct EventHead {
  uint64_t begins, begun, kind, durable, path_bytes, target_bytes, offset, data_bytes;
};

thread_local uint64_t begun_here = 0;  // a thread makes one call at a time

}  // namespace

Recorder::Recorder(const std::string& file)
    : descriptor_(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {
  HEADRACE_CHECK(descriptor_ >= 0, file);
}

Recorder::~Recorder() { ::close(descriptor_); }

void Recorder::before(const SystemCall& call) {
  const EventHead head{1,
                       0,
                       uint64_t(call.kind),
                       call.durable,
                       call.path.size(),
                       call.target.size(),
                       call.offset,
                       call.data.size()};
  std::vector<std::byte> all(sizeof head);
  std::memcpy(all.data(), &head, sizeof head);
  const auto add = [&](std::span<const std::byte> bytes) {
    all.insert(all.end(), bytes.begin(), bytes.end());
  };
  add(std::as_bytes(std::span(call.path)));
  add(std::as_bytes(std::span(call.target)));
  add(call.data);
  const std::lock_guard lock(mutex_);
  begun_here = events_++;
  HEADRACE_CHECK(::write(descriptor_, all.data(), all.size()) == ssize_t(all.size()));
}

void Recorder::after(const SystemCall& call) {
  const EventHead head{0, begun_here, uint64_t(call.kind), 0, 0, 0, 0, 0};
  const std::lock_guard lock(mutex_);
  events_++;
  HEADRACE_CHECK(::write(descriptor_, &head, sizeof head) == ssize_t(sizeof head));
}

std::vector<RecordedEvent> read_recording(const std::string& file) {
  const std::string all = read_file(file);
  std::vector<RecordedEvent> events;
  for (size_t at = 0; at < all.size();) {
    EventHead head{};
    HEADRACE_CHECK(at + sizeof head <= all.size(), "a recording that was cut short");
    std::memcpy(&head, all.data() + at, sizeof head);
    at += sizeof head;
    RecordedEvent event;
    event.begins = head.begins != 0;
    event.begun = head.begun;
    event.kind = CallKind(head.kind);
    event.durable = head.durable != 0;
    event.path = all.substr(at, head.path_bytes);
    at += head.path_bytes;
    event.target = all.substr(at, head.target_bytes);
    at += head.target_bytes;
    event.offset = head.offset;
    const auto* data = reinterpret_cast<const std::byte*>(all.data() + at);
    event.data.assign(data, data + head.data_bytes);
    at += head.data_bytes;
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace headrace::testing
