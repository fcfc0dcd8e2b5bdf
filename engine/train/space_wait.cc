#include "engine/train/space_wait.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>
#include <vector>

#include "storage/text.h"

namespace headrace::train {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kTryEvery{300};

uint64_t bytes_below(const fs::path& directory) {
  uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) bytes += entry->file_size(ignored);
  }
  return bytes;
}

}  // namespace

void SerialListener::narrate(const std::string& line) {
  const std::lock_guard lock(mutex_);
  listener_.narrate(line);
}
void SerialListener::working(const std::string& phase, double fraction) {
  const std::lock_guard lock(mutex_);
  listener_.working(phase, fraction);
}
void SerialListener::step_done(const StepReport& report) {
  const std::lock_guard lock(mutex_);
  listener_.step_done(report);
}
void SerialListener::evaluated(const EvalSummary& summary) {
  const std::lock_guard lock(mutex_);
  listener_.evaluated(summary);
}

std::string old_checkpoints(const std::string& run_dir, const std::string& directory) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(run_dir + "/checkpoints", error), end; !error && entry != end;
       entry.increment(error))
    if (entry->path().filename().string().starts_with("step-")) found.push_back(entry->path());
  std::sort(found.begin(), found.end());
  if (found.size() < 2 || storage::device_of(found.front().string()) != storage::device_of(directory))
    return "";
  found.pop_back();
  uint64_t bytes = 0;
  for (const fs::path& checkpoint : found) bytes += bytes_below(checkpoint);
  const std::string more = found.size() > 1 ? fmt::format(" and {} more there", found.size() - 1) : "";
  return fmt::format("{}{}, {} in all", found.front().string(), more, format_size(bytes));
}

SpaceWait::SpaceWait(Options options, TrainListener& listener, const std::atomic<int>& stop)
    : options_(std::move(options)), listener_(listener), stop_(stop) {}

std::string SpaceWait::describe(const storage::SpaceError& error) const {
  std::string text = error.what();
  if (store_ != nullptr) text += fmt::format("; step {} is committed", store_->step());
  const std::string old = old_checkpoints(options_.run_dir, error.directory());
  if (!old.empty()) text += fmt::format("; old checkpoints that could be deleted: {}", old);
  return text;
}

void SpaceWait::wait(const storage::SpaceError& error) {
  std::unique_lock lock(mutex_);
  if (!options_.waits) {
    throw Error(
        started_ ? ErrorKind::kFailed : ErrorKind::kRefused, describe(error),
        "free space there, then give the same command again: it goes on from the committed step; with "
        "--wait-for-space it waits");
  }
  if (!announced_ && stop_ == 0 && !ended_) {
    announced_ = true;
    listener_.narrate(describe(error) + "; waiting for space");
  }
  if (stop_ == 0) changed_.wait_for(lock, kTryEvery, [this] { return ended_ || stop_ != 0; });
  if (stop_ != 0 || ended_)
    throw StoppedWhileWaiting(ErrorKind::kFailed, "stopped while waiting for space: " + describe(error));
}

void SpaceWait::over() {
  const std::lock_guard lock(mutex_);
  if (std::exchange(announced_, false)) listener_.narrate("there is room again: going on");
}

void SpaceWait::started() {
  const std::lock_guard lock(mutex_);
  started_ = true;
}

void SpaceWait::watch(const storage::Store& store) {
  const std::lock_guard lock(mutex_);
  store_ = &store;
}

void SpaceWait::end() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
}

}  // namespace headrace::train
