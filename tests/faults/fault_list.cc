#include "tests/faults/fault_list.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

namespace headrace::testing {

namespace {

constexpr size_t kLeast = 2;  // of a kind in a sample
// LMDB reads so much of a file first, and takes the end of the file for a new environment, which it lays out.
// There is no way to keep it from that, and no file system that says so of a file that has bytes.
constexpr uint64_t kLmdbHeaderBytes = 152;

class Lister {
 public:
  explicit Lister(const WatchedCall& call) : call_(call) {}

  void fails(const char* name, int error_number, uint32_t times = 1) {
    add(name, {.action = SystemAction::kFail, .error_number = error_number, .times = times});
  }
  void is_interrupted() { fails("EINTR", EINTR); }
  // Lengths at which something changes for one of the layers: bytes, sectors, pages.
  void is_short() {
    const uint64_t bytes = call_.bytes;
    std::set<uint64_t> lengths{1, 511, 512, 513, 4095, 4096, 4097, bytes / 2};
    if (bytes != kLmdbHeaderBytes) lengths.insert(0);
    for (const uint64_t missing : {1, 512, 4096})
      if (bytes > missing) lengths.insert(bytes - missing);
    for (const uint64_t length : lengths)
      if (length < bytes) add("short", {.action = SystemAction::kShort, .amount = length});
  }
  void has_a_flipped_bit() {
    for (const uint64_t bit : {uint64_t{0}, call_.bytes * 4 + 3, call_.bytes * 8 - 1})
      add("flipped bit", {.action = SystemAction::kFlipBit, .amount = bit});
  }
  void lies() {
    add("lost write", {.action = SystemAction::kLose}, true);
    add("torn write", {.action = SystemAction::kTear, .amount = call_.bytes / 2 / 512 * 512}, true);
    add("misplaced write", {.action = SystemAction::kMisplace, .amount = 4096}, true);
  }
  void hangs() {
    add("no answer", {.action = SystemAction::kHang});
    faults_.back().hangs = true;
  }

  std::vector<ListedFault> take() { return std::move(faults_); }

 private:
  void add(const std::string& name, SystemFault fault, bool lies = false) {
    fault.call = call_.call;
    fault.number = call_.number;
    fault.block_io = call_.block_io;
    faults_.push_back({name_of(call_.call) + (": " + name), fault, lies});
  }

  const WatchedCall& call_;
  std::vector<ListedFault> faults_;
};

void list_writing(Lister& list) {
  list.fails("EIO", EIO);
  list.fails("ENOSPC", ENOSPC);
  list.fails("EDQUOT", EDQUOT);
  list.is_interrupted();
  list.is_short();
}

std::vector<ListedFault> faults_of(const WatchedCall& call) {
  Lister list(call);
  switch (call.call) {
    case SystemCall::kPread:
    case SystemCall::kUringRead:
      list.fails("EIO", EIO);
      list.is_interrupted();
      list.is_short();
      if (call.block_io) {
        list.fails("EAGAIN", EAGAIN, 20);
        list.has_a_flipped_bit();
        list.hangs();
      }
      break;
    case SystemCall::kPwrite:
    case SystemCall::kUringWrite:
      list_writing(list);
      if (call.block_io) {
        list.fails("EAGAIN", EAGAIN, 20);
        list.lies();
        list.hangs();
      }
      break;
    case SystemCall::kWrite:
    case SystemCall::kWritev:
      list_writing(list);
      break;
    case SystemCall::kFdatasync:
    case SystemCall::kUringSync:
      list.fails("EIO once", EIO);
      if (call.block_io) list.hangs();
      break;
    case SystemCall::kFsync:
    case SystemCall::kSyncFileRange:
      list.fails("EIO once", EIO);
      break;
    case SystemCall::kFtruncate:
      list.fails("EIO", EIO);
      list.is_interrupted();
      break;
    case SystemCall::kFallocate:
      list.fails("ENOSPC", ENOSPC);
      list.fails("EIO", EIO);
      list.fails("EOPNOTSUPP", EOPNOTSUPP);
      list.is_interrupted();
      break;
    case SystemCall::kOpen:
      list.fails("EIO", EIO);
      list.fails("EMFILE", EMFILE);
      list.is_interrupted();
      break;
    case SystemCall::kMkdir:
    case SystemCall::kRename:
    case SystemCall::kUnlink:
      list.fails("EIO", EIO);
      break;
    case SystemCall::kFlock:
      list.fails("ENOLCK", ENOLCK);
      list.is_interrupted();
      break;
    case SystemCall::kMmap:
      list.fails("ENOMEM", ENOMEM);
      break;
  }
  return list.take();
}

}  // namespace

std::vector<ListedFault> faults_of(const std::vector<WatchedCall>& calls) {
  std::vector<ListedFault> all;
  for (const WatchedCall& call : calls)
    for (ListedFault& fault : faults_of(call)) all.push_back(std::move(fault));
  return all;
}

std::vector<ListedFault> sample(const std::vector<ListedFault>& faults, size_t about) {
  std::map<std::string, std::vector<const ListedFault*>> kinds;
  for (const ListedFault& fault : faults) kinds[fault.kind].push_back(&fault);
  std::vector<ListedFault> chosen;
  for (const auto& [kind, members] : kinds) {
    const size_t wanted = std::max<size_t>(kLeast, members.size() * about / faults.size());
    for (size_t i = 0; i < std::min(wanted, members.size()); i++)
      chosen.push_back(*members[(2 * i + 1) * members.size() / (2 * std::min(wanted, members.size()))]);
  }
  return chosen;
}

}  // namespace headrace::testing
