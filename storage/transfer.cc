#include "storage/transfer.h"

#include <fmt/format.h>

#include <cerrno>
#include <string>

namespace headrace::storage {

namespace {

// A direct file cannot be continued inside this unit; open_for_blocks() ensures that no file needs a larger.
constexpr uint64_t kDirectAlignment = 4096;

std::string describe(const Transfer& transfer) {
  if (transfer.step == TransferStep::kSync) return fmt::format("cannot sync {}", transfer.file->path);
  const char* verb = transfer.step == TransferStep::kFlush ? "flush" : transfer.reads ? "read" : "write";
  return fmt::format("cannot {} {} bytes at offset {} of {}", verb, transfer.bytes, transfer.offset,
                     transfer.file->path);
}

std::string advice_for(const Transfer& transfer, int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return fmt::format("Free space on the file system that holds {}", transfer.file->path);
    case EIO:
      return "Look for errors of the drive in the kernel's log (dmesg)";
    case EFBIG:
      return "Raise the limit on file sizes (ulimit -f), or use a file system that allows larger files";
    default:
      return "";
  }
}

TransferVerdict failed(const Transfer& transfer, int error_number, const std::string& why) {
  const std::string after = transfer.moved > 0 && transfer.step != TransferStep::kFlush
                                ? fmt::format(" (after {} bytes)", transfer.moved)
                                : "";
  return {TransferNext::kDone, std::make_exception_ptr(IoError(ErrorKind::kFailed, error_number,
                                                               describe(transfer) + ": " + why + after,
                                                               advice_for(transfer, error_number)))};
}

TransferVerdict end_of_file(const Transfer& transfer, uint64_t size) {
  return {TransferNext::kDone,
          std::make_exception_ptr(IoError(ErrorKind::kCorrupt, 0,
                                          fmt::format("{}: end of file at {}", describe(transfer), size),
                                          "The file was cut short; restore it from a checkpoint or a copy"))};
}

TransferVerdict after_move(Transfer& transfer) {
  // An empty range would mean "to the end of the file" to the calls that flush and drop.
  if (transfer.file->direct || transfer.bytes == 0) return {TransferNext::kDone, nullptr};
  transfer.step = transfer.reads ? TransferStep::kDrop : TransferStep::kFlush;
  transfer.repeats = 0;
  return {TransferNext::kAgain, nullptr};
}

TransferVerdict apply_moved(Transfer& transfer, uint64_t moved) {
  HEADRACE_CHECK(moved <= transfer.bytes_left(), "the system moved more than it was asked to");
  if (moved == transfer.bytes_left()) {
    transfer.moved = transfer.bytes;
    return after_move(transfer);
  }
  if (moved == 0 && transfer.reads) return end_of_file(transfer, transfer.next_offset());
  const uint64_t progress = transfer.file->direct ? moved / kDirectAlignment * kDirectAlignment : moved;
  if (progress > 0) {
    transfer.moved += progress;
    transfer.repeats = transfer.stalls = 0;
    return {TransferNext::kAgain, nullptr};
  }
  if (++transfer.stalls < kMaxStalls) return {TransferNext::kAgain, nullptr};
  if (transfer.reads) return end_of_file(transfer, transfer.next_offset() + moved);
  return failed(transfer, EIO, fmt::format("the system accepts only {} bytes at a time", moved));
}

}  // namespace

TransferVerdict apply_result(Transfer& transfer, int64_t result) {
  const int error_number = result < 0 ? static_cast<int>(-result) : 0;
  if (transfer.step == TransferStep::kSync) {
    // Never repeated, whatever the error: a second fdatasync can report success for data that is lost.
    if (result < 0) return failed(transfer, error_number, system_text(error_number));
    return {TransferNext::kDone, nullptr};
  }
  // Dropping pages is advice to the kernel; nothing depends on whether it took it.
  if (transfer.step == TransferStep::kDrop) return {TransferNext::kDone, nullptr};

  if (error_number == EINTR || error_number == EAGAIN || error_number == EBUSY) {
    if (++transfer.repeats >= kMaxRepeats)
      return failed(transfer, error_number,
                    fmt::format("{} ({} times)", system_text(error_number), transfer.repeats));
    return {error_number == EINTR ? TransferNext::kAgain : TransferNext::kAgainLater, nullptr};
  }
  if (transfer.step == TransferStep::kFlush) {
    // sync_file_range() takes a write-back error away from the fdatasync() that follows, so it must count.
    // ENOSYS only says that the pages stay until that fdatasync.
    if (result < 0 && error_number != ENOSYS)
      return failed(transfer, error_number, system_text(error_number));
    transfer.step = TransferStep::kDrop;
    return {TransferNext::kAgain, nullptr};
  }
  if (result < 0) return failed(transfer, error_number, system_text(error_number));
  return apply_moved(transfer, static_cast<uint64_t>(result));
}

}  // namespace headrace::storage
