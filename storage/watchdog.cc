#include "storage/watchdog.h"

#include <algorithm>
#include <utility>

#include "storage/aligned_memory.h"
#include "storage/io_thread.h"

namespace headrace::storage {

namespace {

class OwnedIo final : public BlockIo {
 public:
  explicit OwnedIo(std::unique_ptr<StoppableIo> io) : io_(std::move(io)) {}
  ~OwnedIo() override {
    // Not a leak that grows: the process is about to end, and a late answer must find everything in place.
    if (!io_->stop()) static_cast<void>(io_.release());
  }
  OwnedIo(const OwnedIo&) = delete;
  OwnedIo& operator=(const OwnedIo&) = delete;

  FileIndex add_file(const IoFile& file) override { return io_->add_file(file); }
  void register_memory(std::span<std::byte> memory) override { io_->register_memory(memory); }
  void submit(std::span<const IoRequest> requests) override { io_->submit(requests); }
  IoCounters counters() const override { return io_->counters(); }
  std::string description() const override { return io_->description(); }

 private:
  std::unique_ptr<StoppableIo> io_;
};

}  // namespace

void Delivery::deliver(IoCompletion& completion) {
  {
    const std::lock_guard one_at_a_time(one_at_a_time_);
    completion.listener->io_done(completion.tag, std::move(completion.error));
  }
  const std::lock_guard lock(queue_mutex_);
  if (--undelivered_ == 0) delivered_.notify_all();
}

void Delivery::wait_until_over(std::unique_lock<std::mutex>& lock, const TransferQueue& queue) {
  delivered_.wait(lock, [&] { return undelivered_ == 0 && queue.empty(); });
}

Watchdog::Watchdog(std::mutex& queue_mutex, TransferQueue& queue, Delivery& delivery,
                   std::chrono::milliseconds limit)
    : queue_mutex_(queue_mutex),
      queue_(queue),
      delivery_(delivery),
      tick_(std::max<std::chrono::milliseconds>(limit / TransferQueue::kStuckTicks,
                                                std::chrono::milliseconds(1))),
      thread_(start_io_thread([this] { watch(); })) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::fail_new_requests() {
  new_requests_ = true;
  changed_.notify_all();
}

void Watchdog::watch() {
  std::unique_lock lock(queue_mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, tick_, [this] { return stopping_ || new_requests_; });
    std::vector<IoCompletion> over;
    if (std::exchange(new_requests_, false))
      over = queue_.fail_waiting();
    else if (!stopping_)
      over = queue_.tick();
    if (queue_.gave_up()) AlignedMemory::keep_all();  // before any owner of a buffer hears of it
    delivery_.announce(over.size());
    lock.unlock();
    for (IoCompletion& completion : over) delivery_.deliver(completion);
    lock.lock();
  }
}

std::unique_ptr<BlockIo> own_stoppable(std::unique_ptr<StoppableIo> io) {
  return std::make_unique<OwnedIo>(std::move(io));
}

}  // namespace headrace::storage
