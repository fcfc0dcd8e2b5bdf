#include "engine/train/session_io.h"

#include <fmt/format.h>

#include "storage/error.h"
#include "storage/run_description.h"
#include "storage/store.h"

namespace headrace::train {

std::vector<std::string> shard_places(const SessionOptions& session) {
  if (!session.shard_dirs.empty()) return session.shard_dirs;
  if (!storage::Store::exists(session.run_dir)) return {session.run_dir};
  try {
    return storage::describe_run(session.run_dir).shard_dirs;
  } catch (const Error&) {
    return {session.run_dir};  // opening the run will say what is wrong with it
  }
}

std::string SessionIo::description() const {
  return fmt::format("{}; {}", io->description(), tuned.tuning.description());
}

SessionIo open_session_io(const SessionOptions& session) {
  SessionIo opened;
  opened.tuned = storage::tune_io(shard_places(session));
  storage::IoOptions options;
  options.backend = session.io;
  opened.tuned.tuning.apply(options);
  opened.io = storage::make_block_io(options);
  return opened;
}

}  // namespace headrace::train
