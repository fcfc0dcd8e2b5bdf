// The io_uring back end: one thread and one ring for all files. The thread starts transfers as the drives'
// depth allows, sleeps in the ring, and is woken by completions or by an eventfd that the ring itself reads.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "storage/block_io.h"
#include "storage/io_thread.h"
#include "storage/registered_memory.h"
#include "storage/text.h"
#include "storage/transfer.h"
#include "storage/transfer_queue.h"
#include "storage/watchdog.h"

namespace headrace::storage {

namespace {

constexpr uint64_t kMaxRegisteredPiece = uint64_t{1} << 30;  // bytes; the kernel takes no larger buffer
constexpr unsigned kMinEntries = 256, kMaxEntries = 4096;

[[noreturn]] void refuse(int error_number, const std::string& what) {
  throw IoError(
      ErrorKind::kRefused, error_number, what,
      "Use the thread back end (--io threads), or allow io_uring: sysctl kernel.io_uring_disabled, the "
      "container's seccomp profile");
}

// Why memory could not be registered, where that is the limit's doing.
std::string memlock_reason(int error_number, uint64_t bytes) {
  rlimit limit{};
  if (error_number != ENOMEM || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur >= bytes)
    return "";
  return fmt::format("; the limit on locked memory is {}, and ulimit -l raises it",
                     format_size(limit.rlim_cur));
}

class UringIo final : public StoppableIo {
 public:
  explicit UringIo(const IoOptions& options);
  ~UringIo() override;
  UringIo(const UringIo&) = delete;
  UringIo& operator=(const UringIo&) = delete;

  FileIndex add_file(const IoFile& file) override;
  void register_memory(std::span<std::byte> memory) override;
  void submit(std::span<const IoRequest> requests) override;
  IoCounters counters() const override;
  std::string description() const override;
  bool stop() override;

 private:
  void check_operations();
  void run();
  bool start_transfers();
  void enter_ring();
  void reap();
  void completed(Transfer& transfer, int64_t result);
  void prepare(Transfer& transfer);
  void prepare_move(io_uring_sqe* entry, const Transfer& transfer) const;
  void prepare_wake();
  io_uring_sqe* next_entry();
  void wake();

  io_uring ring_{};
  int wake_descriptor_ = -1;
  uint64_t wake_value_ = 0;          // the ring reads the eventfd into it
  unsigned entries_ = 0;             // of the ring; one is the wake-up's
  unsigned in_flight_ = 0;           // transfers; the I/O thread's
  std::vector<Transfer*> deferred_;  // to be repeated after a pause; the I/O thread's
  RegisteredMemory registered_;

  mutable std::mutex mutex_;  // guards what follows
  TransferQueue queue_;
  bool sleeping_ = false;  // the I/O thread looks at the queue again only after a completion or a wake-up
  bool stopping_ = false;
  std::string description_ = "io_uring";
  Delivery delivery_{mutex_};
  std::optional<Watchdog> watchdog_;
  std::thread thread_;
};

UringIo::UringIo(const IoOptions& options) : queue_(options) {
  entries_ = std::clamp(std::bit_ceil(options.depth * 4u), kMinEntries, kMaxEntries);
  deferred_.reserve(entries_);
  const int result = io_uring_queue_init(entries_, &ring_, 0);
  if (result < 0) refuse(-result, "io_uring refused: " + system_text(-result));
  try {
    check_operations();
    wake_descriptor_ = ::eventfd(0, EFD_CLOEXEC);
    if (wake_descriptor_ < 0) refuse(errno, "cannot make an eventfd: " + system_text(errno));
    watchdog_.emplace(mutex_, queue_, delivery_, std::chrono::milliseconds(options.stuck_ms));
  } catch (...) {
    io_uring_queue_exit(&ring_);
    if (wake_descriptor_ >= 0) ::close(wake_descriptor_);
    throw;
  }
}

void UringIo::check_operations() {
  io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
  bool all = probe != nullptr;
  for (const int operation : {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED,
                              IORING_OP_FSYNC, IORING_OP_SYNC_FILE_RANGE, IORING_OP_FADVISE})
    all = all && io_uring_opcode_supported(probe, operation);
  if (probe != nullptr) io_uring_free_probe(probe);
  if (!all) refuse(EOPNOTSUPP, "io_uring refused: this kernel lacks operations (Linux 5.6 has them)");
}

// Closes the ring only where nothing refers to it any more: the kernel writes to the buffer of a request that
// it answers late, and to the ring.
bool UringIo::stop() {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    wake();
    delivery_.wait_until_over(lock, queue_);
    if (queue_.gave_up()) {
      thread_.detach();
      return false;
    }
  }
  if (thread_.joinable()) thread_.join();
  return true;
}

UringIo::~UringIo() {
  io_uring_queue_exit(&ring_);
  ::close(wake_descriptor_);
}

FileIndex UringIo::add_file(const IoFile& file) {
  const std::lock_guard lock(mutex_);
  return queue_.add_file(file);
}

void UringIo::register_memory(std::span<std::byte> memory) {
  const std::lock_guard lock(mutex_);
  // Before Linux 5.13 registering waits for everything in flight, so also for the wake-up's read.
  HEADRACE_CHECK(!thread_.joinable(), "memory is registered before the first request");
  HEADRACE_CHECK(registered_.empty(), "memory is registered once");
  if (memory.empty()) return;
  const RegisteredMemory registered(memory, kMaxRegisteredPiece);
  std::vector<iovec> buffers;
  for (const std::span<std::byte> piece : registered.pieces())
    buffers.push_back({piece.data(), piece.size()});
  const int result = io_uring_register_buffers(&ring_, buffers.data(), static_cast<unsigned>(buffers.size()));
  if (result < 0) {
    description_ =
        fmt::format("io_uring, plain buffers (registering {} was refused: {}{})", format_size(memory.size()),
                    system_text(-result), memlock_reason(-result, memory.size()));
    return;
  }
  registered_ = registered;
  description_ = "io_uring, registered buffers";
}

void UringIo::submit(std::span<const IoRequest> requests) {
  bool asleep = false;
  {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = start_io_thread([this] { run(); });
    queue_.push(requests);
    if (queue_.gave_up()) watchdog_->fail_new_requests();
    asleep = std::exchange(sleeping_, false);
  }
  if (asleep) wake();
}

IoCounters UringIo::counters() const {
  const std::lock_guard lock(mutex_);
  return queue_.counters();
}

std::string UringIo::description() const {
  const std::lock_guard lock(mutex_);
  return description_;
}

void UringIo::wake() {
  const uint64_t one = 1;
  while (::write(wake_descriptor_, &one, sizeof one) < 0) HEADRACE_CHECK(errno == EINTR, system_text(errno));
}

// ---- the I/O thread
// -----------------------------------------------------------------------------------------

void UringIo::run() {
  prepare_wake();
  while (start_transfers()) {
    enter_ring();
    reap();
  }
}

// False when it is time to stop.
bool UringIo::start_transfers() {
  const std::lock_guard lock(mutex_);
  for (Transfer* const transfer : deferred_)
    if (!transfer->given_up) prepare(*transfer);
  deferred_.clear();
  if (stopping_ && queue_.empty()) return false;
  while (in_flight_ < entries_ - 1) {
    Transfer* const transfer = queue_.next();
    if (transfer == nullptr) break;
    ++in_flight_;
    prepare(*transfer);
  }
  sleeping_ = true;
  return true;
}

// Submits what was prepared and waits for a completion.
void UringIo::enter_ring() {
  const int result = io_uring_submit_and_wait(&ring_, 1);
  // Busy: completions must be reaped first. Again: the kernel lacks memory for requests at the moment.
  const bool passing = result == -EINTR || result == -EAGAIN || result == -EBUSY;
  HEADRACE_CHECK(result >= 0 || passing, "io_uring_enter: " + system_text(-result));
  if (result == -EAGAIN) std::this_thread::sleep_for(std::chrono::microseconds(kBusyPauseMicroseconds));
}

void UringIo::reap() {
  io_uring_cqe* entry = nullptr;
  while (io_uring_peek_cqe(&ring_, &entry) == 0) {
    Transfer* const transfer = static_cast<Transfer*>(io_uring_cqe_get_data(entry));
    const int64_t result = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    if (transfer != nullptr) {
      completed(*transfer, result);
    } else {
      const bool read = result == static_cast<int64_t>(sizeof wake_value_);
      HEADRACE_CHECK(read || result == -EINTR || result == -EAGAIN, "the wake-up failed");
      prepare_wake();
    }
  }
  if (!deferred_.empty()) std::this_thread::sleep_for(std::chrono::microseconds(kBusyPauseMicroseconds));
}

void UringIo::completed(Transfer& transfer, int64_t result) {
  TransferVerdict verdict = apply_result(transfer, result);
  std::optional<IoCompletion> completion;
  {
    const std::lock_guard lock(mutex_);
    if (!transfer.given_up && verdict.next == TransferNext::kAgain) return prepare(transfer);
    if (!transfer.given_up && verdict.next == TransferNext::kAgainLater)
      return deferred_.push_back(&transfer);
    completion = queue_.finish(transfer, std::move(verdict.error));
    if (completion) delivery_.announce(1);
    // The queue is looked at after the completions; a listener that submits need not wake us.
    sleeping_ = false;
  }
  --in_flight_;
  if (completion) delivery_.deliver(*completion);
}

io_uring_sqe* UringIo::next_entry() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  HEADRACE_CHECK(entry != nullptr, "the ring has an entry for every transfer in flight and the wake-up");
  return entry;
}

void UringIo::prepare(Transfer& transfer) {
  io_uring_sqe* const entry = next_entry();
  const int descriptor = transfer.file->descriptor;
  switch (transfer.step) {
    case TransferStep::kRead:
    case TransferStep::kWrite:
      prepare_move(entry, transfer);
      break;
    case TransferStep::kSync:
      io_uring_prep_fsync(entry, descriptor, IORING_FSYNC_DATASYNC);
      break;
    case TransferStep::kFlush:
      io_uring_prep_sync_file_range(
          entry, descriptor, static_cast<unsigned>(transfer.bytes), transfer.offset,
          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
      break;
    case TransferStep::kDrop:
      io_uring_prep_fadvise(entry, descriptor, transfer.offset, static_cast<off_t>(transfer.bytes),
                            POSIX_FADV_DONTNEED);
      break;
  }
  io_uring_sqe_set_data(entry, &transfer);
}

void UringIo::prepare_move(io_uring_sqe* entry, const Transfer& transfer) const {
  const int descriptor = transfer.file->descriptor;
  const auto bytes = static_cast<unsigned>(transfer.bytes_left());
  std::byte* const data = transfer.next_data();
  const uint64_t offset = transfer.next_offset();
  const std::optional<uint32_t> piece = registered_.piece_of(data, bytes);
  const int buffer = static_cast<int>(piece.value_or(0));
  if (transfer.step == TransferStep::kRead) {
    if (piece)
      io_uring_prep_read_fixed(entry, descriptor, data, bytes, offset, buffer);
    else
      io_uring_prep_read(entry, descriptor, data, bytes, offset);
  } else {
    if (piece)
      io_uring_prep_write_fixed(entry, descriptor, data, bytes, offset, buffer);
    else
      io_uring_prep_write(entry, descriptor, data, bytes, offset);
  }
}

void UringIo::prepare_wake() {
  io_uring_sqe* const entry = next_entry();
  io_uring_prep_read(entry, wake_descriptor_, &wake_value_, sizeof wake_value_, 0);
  io_uring_sqe_set_data(entry, nullptr);
}

}  // namespace

std::unique_ptr<BlockIo> make_uring_io(const IoOptions& options) {
  return own_stoppable(std::make_unique<UringIo>(options));
}

}  // namespace headrace::storage
