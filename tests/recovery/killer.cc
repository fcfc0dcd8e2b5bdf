#include "tests/recovery/killer.h"

#include <signal.h>
#include <unistd.h>

namespace headrace::testing {
namespace {

[[noreturn]] void die() {
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

}  // namespace

void Killer::before(const SystemCall& call) {
  const std::string name = name_of(call);
  {
    const std::lock_guard lock(mutex_);
    if (++counts_[name] != number_ || name != name_) return;
  }
  if (moment_ == KillMoment::kBefore) die();
  if (moment_ == KillMoment::kHalfway && call.kind == CallKind::kWrite) {
    constexpr size_t kSector = 512;  // that a direct write is made of
    const size_t half = call.data.size() / 2;
    write_unwatched(call.descriptor, call.data.first(half >= kSector ? half / kSector * kSector : half),
                    call.offset);
    die();
  }
  due_ = true;
}

void Killer::after(const SystemCall& call) {
  if (due_ && name_of(call) == name_) die();
}

std::map<std::string, uint64_t> Killer::counts() {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace headrace::testing
