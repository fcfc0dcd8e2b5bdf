// Block I/O: the one way in which the bytes of shards and spill files move. A small interface with several
// back ends: io_uring, threads (pread/pwrite), and for tests in memory and faulty.
//
// Ownership: the caller owns descriptors and buffers; both must stay valid until the request completes, and a
// buffer being written must not change. Threads: submit() may be called from any thread; completions are
// delivered on threads of the back end, one at a time, and must be short (hand work to others). Failure:
// every transfer either moved all of its bytes or completes with an Error that names file, offset, length and
// the system's words. Short transfers are continued, EAGAIN and EINTR repeated, by the back end. A request
// that is never answered is given up after IoOptions::stuck_ms (storage/watchdog.h says what follows).
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "storage/error.h"

namespace headrace::storage {

enum class IoKind : uint8_t { kRead, kWrite, kSync /* fdatasync; offset, data and bytes are ignored */ };

// A file as block I/O knows it: an index given by BlockIo::add_file.
using FileIndex = uint32_t;

// What a failed request completes with. The errno lets a caller treat a full disk (ENOSPC, EDQUOT) unlike a
// broken one; it is 0 where no system call failed: a read past the end of a file (kCorrupt), no answer.
class IoError : public Error {
 public:
  IoError(ErrorKind kind, int error_number, std::string what, std::string advice = "")
      : Error(kind, std::move(what), std::move(advice)), error_number_(error_number) {}
  int error_number() const { return error_number_; }

 private:
  int error_number_;
};

class IoListener {
 public:
  virtual ~IoListener() = default;
  // Called once for each request, on a thread of the back end. `error` is null when all bytes moved, else an
  // IoError. May call submit(); must not throw.
  virtual void io_done(uint64_t tag, std::exception_ptr error) = 0;
};

struct IoRequest {
  IoKind kind = IoKind::kRead;
  FileIndex file = 0;
  uint64_t offset = 0;        // bytes; a multiple of the file's alignment where it is direct
  std::byte* data = nullptr;  // aligned likewise; only read from for kWrite
  uint64_t bytes = 0;
  IoListener* listener = nullptr;
  uint64_t tag = 0;  // handed back to the listener
};

struct IoFile {
  int descriptor = -1;
  std::string path;     // for messages
  bool direct = false;  // opened with O_DIRECT; otherwise the back end drops the pages behind what it moved
  uint32_t drive = 0;   // requests of one drive share a depth bound
};

struct IoCounters {
  uint64_t read_bytes = 0, written_bytes = 0;  // of requests completed without error
  uint64_t reads = 0, writes = 0, syncs = 0;   // requests completed without error
};

class BlockIo {
 public:
  virtual ~BlockIo() = default;  // waits for what is in flight, and for nothing that was given up
  virtual FileIndex add_file(const IoFile& file) = 0;  // at any time, from any thread
  // Tells the back end where buffers will lie, so that it can register them with the kernel where limits
  // allow (which makes it all resident). Called at most once, before the first request.
  virtual void register_memory(std::span<std::byte> memory) = 0;
  // Takes the requests; they complete in any order, but are begun in the order given among the reads of a
  // drive and among its writes and syncs, while these two take turns. A sync covers only writes that were
  // complete before it was submitted. At most `IoOptions::max_requests` may be outstanding.
  virtual void submit(std::span<const IoRequest> requests) = 0;
  virtual IoCounters counters() const = 0;
  // "io_uring, registered buffers", "threads (8; io_uring refused: Operation not permitted)".
  virtual std::string description() const = 0;
};

enum class IoBackend { kAuto, kUring, kThreads };

struct IoOptions {
  IoBackend backend = IoBackend::kAuto;
  uint32_t depth = 16;                // transfers in flight per drive
  uint64_t transfer_bytes = 1 << 20;  // larger requests are cut into these; a multiple of 4096
  uint32_t max_requests = 65536;      // outstanding requests, all together
  uint32_t threads = 8;               // of the thread back end
  // Without an answer for so long a transfer is given up, and with it everything that has not begun. Longer
  // than a driver takes that repeats and resets, whose own error says more; a suspended system does not
  // count.
  uint32_t stuck_ms = 120000;
};

// kAuto takes io_uring, and threads where the kernel refuses it (ENOSYS, EPERM, ENOMEM, or operations that it
// lacks); the description then says why. kUring where it is refused is an IoError (kRefused). Options that
// make no sense are an Error (kUsage).
std::unique_ptr<BlockIo> make_block_io(const IoOptions& options);
std::unique_ptr<BlockIo> make_uring_io(const IoOptions& options);
std::unique_ptr<BlockIo> make_thread_io(const IoOptions& options);

// Submits the requests, some hundreds at a time, and waits for all that it submitted; throws the first error.
// The listeners and tags in `requests` are replaced. Not to be called from a listener.
void transfer_and_wait(BlockIo& io, std::span<IoRequest> requests);

}  // namespace headrace::storage
