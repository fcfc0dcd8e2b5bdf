#include "storage/transfer_queue.h"

#include <fmt/format.h>

#include <algorithm>

namespace headrace::storage {

namespace {

constexpr uint64_t kMaxTransferBytes = uint64_t{1} << 30;  // one system call moves less than 2 GiB
constexpr uint32_t kMaxDepth = 4096;
constexpr uint32_t kMaxThreads = 1024;

void check_options(const IoOptions& options) {
  const auto require = [](bool good, const std::string& what) {
    if (!good) throw Error(ErrorKind::kUsage, "block I/O: " + what);
  };
  require(options.depth >= 1 && options.depth <= kMaxDepth,
          fmt::format("a depth of {} is not between 1 and {}", options.depth, kMaxDepth));
  require(options.transfer_bytes >= 4096 && options.transfer_bytes <= kMaxTransferBytes &&
              options.transfer_bytes % 4096 == 0,
          fmt::format("transfers of {} bytes: not a multiple of 4096 up to 1 GiB", options.transfer_bytes));
  require(options.max_requests >= 1, "no request may be outstanding");
  require(options.threads >= 1 && options.threads <= kMaxThreads,
          fmt::format("{} threads are not between 1 and {}", options.threads, kMaxThreads));
  require(options.stuck_ms >= 1, "no time for a request to be answered");
}

std::string describe(const IoRequest& request, const IoFile& file, uint64_t offset, uint64_t bytes) {
  if (request.kind == IoKind::kSync) return fmt::format("cannot sync {}", file.path);
  return fmt::format("cannot {} {} bytes at offset {} of {}",
                     request.kind == IoKind::kRead ? "read" : "write", bytes, offset, file.path);
}

}  // namespace

TransferQueue::TransferQueue(const IoOptions& options)
    : depth_(options.depth),
      transfer_bytes_(options.transfer_bytes),
      max_requests_(options.max_requests),
      stuck_seconds_(options.stuck_ms / 1000.0) {
  check_options(options);
  active_.reserve(max_requests_);  // address space; resident only as far as it is used
}

FileIndex TransferQueue::add_file(const IoFile& file) {
  const auto known = std::find_if(drives_.begin(), drives_.end(),
                                  [&](const Drive& drive) { return drive.number == file.drive; });
  const auto drive_index = static_cast<uint32_t>(known - drives_.begin());
  if (known == drives_.end()) {
    drives_.push_back({});
    drives_.back().number = file.drive;
    free_transfers_.reserve(transfers_.size() + depth_);
    for (uint32_t i = 0; i < depth_; ++i) free_transfers_.push_back(&transfers_.emplace_back());
  }
  files_.push_back({file, drive_index});
  return static_cast<FileIndex>(files_.size() - 1);
}

void TransferQueue::push(std::span<const IoRequest> requests) {
  HEADRACE_CHECK(requests.size() <= max_requests_ - outstanding_,
                 "more requests than IoOptions::max_requests");
  for (const IoRequest& request : requests) push_one(request);
}

void TransferQueue::push_one(const IoRequest& request) {
  HEADRACE_CHECK(request.file < files_.size(), "a request for a file that was not added");
  HEADRACE_CHECK(request.listener != nullptr, "a request without a listener");
  uint32_t index = free_active_;
  if (index != kNone) {
    free_active_ = active_[index].next;
  } else {
    index = static_cast<uint32_t>(active_.size());
    active_.emplace_back();
  }
  active_[index] = {};
  active_[index].request = request;
  Line& line = line_of(active_[index]);
  (line.first == kNone ? line.first : active_[line.last].next) = index;
  line.last = index;
  ++outstanding_;
}

TransferQueue::Line& TransferQueue::line_of(const Active& active) {
  Drive& drive = drives_[files_[active.request.file].drive];
  return active.request.kind == IoKind::kRead ? drive.reads : drive.writes;
}

Transfer* TransferQueue::next() {
  if (stuck_) return nullptr;
  for (uint32_t i = 0; i < drives_.size(); ++i) {
    const auto index = static_cast<uint32_t>((drive_turn_ + i) % drives_.size());
    Drive& drive = drives_[index];
    const bool reads = drive.reads.first != kNone, writes = drive.writes.first != kNone;
    if (drive.in_flight == depth_ || (!reads && !writes)) continue;
    const bool take_write = reads && writes ? drive.writes_turn : writes;
    drive.writes_turn = !take_write;
    drive_turn_ = index + 1;
    return cut_from(index, take_write ? drive.writes : drive.reads);
  }
  return nullptr;
}

// Pieces of a request are about equal: a short one at its end would cost a drive nearly as much as a full
// one.
uint64_t TransferQueue::next_piece(uint64_t bytes_left) const {
  const uint64_t pieces = std::max<uint64_t>(1, (bytes_left + transfer_bytes_ - 1) / transfer_bytes_);
  const uint64_t even = (bytes_left + pieces - 1) / pieces;
  return std::min(bytes_left, (even + kPieceUnit - 1) / kPieceUnit * kPieceUnit);
}

Transfer* TransferQueue::cut_from(uint32_t drive_index, Line& line) {
  const uint32_t request_index = line.first;
  Active& active = active_[request_index];
  const IoRequest& request = active.request;
  const bool sync = request.kind == IoKind::kSync;

  Transfer& transfer = *free_transfers_.back();
  free_transfers_.pop_back();
  transfer = {};
  transfer.reads = request.kind == IoKind::kRead;
  transfer.step = sync ? TransferStep::kSync : transfer.reads ? TransferStep::kRead : TransferStep::kWrite;
  transfer.file = &files_[request.file].file;
  transfer.request = request_index;
  transfer.drive = drive_index;
  transfer.started_tick = tick_;
  transfer.in_flight = true;
  if (!sync) {
    transfer.offset = request.offset + active.cut_bytes;
    transfer.bytes = next_piece(request.bytes - active.cut_bytes);
    transfer.data = request.data + active.cut_bytes;
    active.cut_bytes += transfer.bytes;
  }
  ++active.in_flight;
  ++drives_[drive_index].in_flight;
  if (sync || active.cut_bytes == request.bytes) {
    active.cut = true;
    line.first = active.next;
  }
  return &transfer;
}

std::optional<IoCompletion> TransferQueue::finish(Transfer& transfer, std::exception_ptr error) {
  if (transfer.given_up) return std::nullopt;
  transfer.in_flight = false;
  --drives_[transfer.drive].in_flight;
  free_transfers_.push_back(&transfer);
  return end_part(active_[transfer.request], transfer.request, std::move(error));
}

std::optional<IoCompletion> TransferQueue::end_part(Active& active, uint32_t index,
                                                    std::exception_ptr error) {
  --active.in_flight;
  if (error && !active.error) active.error = std::move(error);
  if (active.error && !active.cut) {
    active.cut = true;  // only the first of a line is cut in part, so this one is
    line_of(active).first = active.next;
  }
  if (!active.cut || active.in_flight > 0) return std::nullopt;
  return end(active, index);
}

IoCompletion TransferQueue::end(Active& active, uint32_t index) {
  if (!active.error) count(active.request);
  IoCompletion completion{active.request.listener, active.request.tag, std::move(active.error)};
  active.next = free_active_;
  free_active_ = index;
  --outstanding_;
  return completion;
}

std::vector<IoCompletion> TransferQueue::tick() {
  ++tick_;
  std::vector<IoCompletion> over;
  for (Transfer& transfer : transfers_) {
    // One tick more: it began somewhere within its first.
    const bool stuck = transfer.in_flight && tick_ - transfer.started_tick > kStuckTicks;
    if (stuck && !transfer.given_up) give_up(transfer, over);
  }
  if (!over.empty() || stuck_) {
    for (IoCompletion& completion : fail_waiting()) over.push_back(std::move(completion));
  }
  return over;
}

void TransferQueue::give_up(Transfer& transfer, std::vector<IoCompletion>& over) {
  transfer.given_up = true;
  Active& active = active_[transfer.request];
  const std::exception_ptr error = std::make_exception_ptr(IoError(
      ErrorKind::kFailed, 0,
      fmt::format("{}: no answer after {} seconds",
                  describe(active.request, *transfer.file, transfer.offset, transfer.bytes), stuck_seconds_),
      "The drive, its driver or the file system hangs: look in the kernel's log (dmesg)"));
  if (!stuck_) stuck_ = error;
  if (std::optional<IoCompletion> completion = end_part(active, transfer.request, error))
    over.push_back(std::move(*completion));
}

std::vector<IoCompletion> TransferQueue::fail_waiting() {
  std::vector<IoCompletion> over;
  for (Drive& drive : drives_) {
    for (Line* const line : {&drive.reads, &drive.writes}) {
      while (line->first != kNone) {
        const uint32_t index = line->first;
        Active& active = active_[index];
        active.cut = true;
        line->first = active.next;
        if (!active.error) active.error = stuck_;
        if (active.in_flight == 0) over.push_back(end(active, index));
      }
    }
  }
  return over;
}

void TransferQueue::count(const IoRequest& request) {
  switch (request.kind) {
    case IoKind::kRead:
      ++counters_.reads;
      counters_.read_bytes += request.bytes;
      break;
    case IoKind::kWrite:
      ++counters_.writes;
      counters_.written_bytes += request.bytes;
      break;
    case IoKind::kSync:
      ++counters_.syncs;
      break;
  }
}

}  // namespace headrace::storage
