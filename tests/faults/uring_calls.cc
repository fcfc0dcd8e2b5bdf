// liburing's submission, interposed: entries are spoiled before the kernel takes them, results before the
// program sees them, in the rings that both share.
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "storage/error.h"
#include "tests/faults/system_calls.h"

namespace {

using headrace::testing::SystemAction;
using headrace::testing::SystemCall;
using headrace::testing::SystemFault;
using headrace::testing::internal::meet;
using headrace::testing::internal::Meeting;

// What completions are to say, by their user data, which is unique among those in flight. Each ring has one
// thread, and so has this.
std::map<std::pair<const io_uring*, uint64_t>, int>& forced_results() {
  static thread_local std::map<std::pair<const io_uring*, uint64_t>, int> results;
  return results;
}

// An entry that completes within its submission: only so its completion is sure to be met before the program
// can look at it.
void replace_by_nothing(io_uring_sqe& entry) {
  const uint64_t user_data = entry.user_data;
  entry = {};
  entry.opcode = IORING_OP_NOP;
  entry.fd = -1;
  entry.user_data = user_data;
}

bool reads(const io_uring_sqe& entry) {
  return entry.opcode == IORING_OP_READ || entry.opcode == IORING_OP_READ_FIXED;
}

// Moves what the entry would, or less of it, to another place.
void move_now(const io_uring_sqe& entry, uint64_t bytes, uint64_t displacement) {
  // A direct transfer moves whole sectors, whatever it then says.
  const uint64_t sectors = std::min<uint64_t>(entry.len, (bytes + 511) / 512 * 512);
  if (sectors == 0) return;
  const long moved = ::syscall(reads(entry) ? SYS_pread64 : SYS_pwrite64, entry.fd, entry.addr, sectors,
                               entry.off + displacement);
  HEADRACE_CHECK(moved == static_cast<long>(sectors), headrace::system_text(errno));
}

void spoil(io_uring* ring, io_uring_sqe& entry, const SystemFault& fault) {
  int result = static_cast<int>(entry.len);
  auto* const data = reinterpret_cast<unsigned char*>(entry.addr);
  switch (fault.action) {
    case SystemAction::kFail:
      result = -fault.error_number;
      break;
    case SystemAction::kShort:
      result = static_cast<int>(std::min<uint64_t>(fault.amount, entry.len));
      // What lies beyond must not look like what should be there.
      if (reads(entry)) std::fill_n(data, entry.len, 0xA5);
      move_now(entry, fault.amount, 0);
      break;
    case SystemAction::kTear:
      move_now(entry, fault.amount, 0);
      break;
    case SystemAction::kLose:
      break;
    case SystemAction::kMisplace:
      move_now(entry, entry.len, fault.amount);
      break;
    case SystemAction::kFlipBit:
      move_now(entry, entry.len, 0);
      headrace::testing::internal::flip_bit(data, entry.len, fault.amount);
      break;
    case SystemAction::kHang: {
      static char never = 0;
      const uint64_t user_data = entry.user_data;
      io_uring_prep_read(&entry, headrace::testing::internal::hung_pipe_descriptor(), &never, 1, 0);
      entry.user_data = user_data;
      return;
    }
  }
  forced_results()[{ring, entry.user_data}] = result;
  replace_by_nothing(entry);
}

// Nothing for entries that are not transfers of files: the wake-up.
const SystemCall* call_of(const io_uring_sqe& entry) {
  static constexpr SystemCall kRead = SystemCall::kUringRead, kWrite = SystemCall::kUringWrite,
                              kSync = SystemCall::kUringSync;
  switch (entry.opcode) {
    case IORING_OP_READ:
    case IORING_OP_READ_FIXED:
      return &kRead;
    case IORING_OP_WRITE:
    case IORING_OP_WRITE_FIXED:
      return &kWrite;
    case IORING_OP_FSYNC:
      return &kSync;
    default:
      return nullptr;
  }
}

void before_submission(io_uring* ring) {
  for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++) {
    io_uring_sqe& entry = ring->sq.sqes[at & *ring->sq.kring_mask];
    const SystemCall* const call = call_of(entry);
    if (call == nullptr) continue;
    const Meeting meeting = meet(*call, entry.fd, entry.len);
    if (meeting.fault)
      spoil(ring, entry, *meeting.fault);
    else if (meeting.watched && *call == SystemCall::kUringSync)
      replace_by_nothing(entry);
  }
}

void after_submission(io_uring* ring) {
  auto& results = forced_results();
  if (results.empty()) return;
  unsigned head = 0;
  io_uring_cqe* entry = nullptr;
  io_uring_for_each_cqe(ring, head, entry) {
    const auto found = results.find({ring, entry->user_data});
    if (found == results.end()) continue;
    entry->res = found->second;
    results.erase(found);
  }
}

}  // namespace

extern "C" int io_uring_submit_and_wait(io_uring* ring, unsigned wait_nr) {
  static const auto next =
      reinterpret_cast<decltype(::io_uring_submit_and_wait)*>(::dlsym(RTLD_NEXT, "io_uring_submit_and_wait"));
  HEADRACE_CHECK(next != nullptr);
  before_submission(ring);
  const int result = next(ring, wait_nr);
  after_submission(ring);
  return result;
}
