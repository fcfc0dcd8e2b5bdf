#include "storage/input_stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "storage/error.h"

namespace headrace::storage {
namespace {

constexpr size_t kPieceBytes = 64 * 1024;
constexpr std::byte kGzipMagic[] = {std::byte{0x1f}, std::byte{0x8b}};

Error unusable(const std::string& what, const std::string& advice) {
  return Error(ErrorKind::kUsage, what, advice);
}

}  // namespace

File open_input_file(const std::string& path) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer that may never come.
  File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK), path);
  if (!file.is_open()) {
    throw unusable(fmt::format("cannot open the data file {}: {}", path, system_text(errno)),
                   "name data that you may read");
  }
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) {
    throw unusable(fmt::format("cannot examine the data file {}: {}", path, system_text(errno)), "");
  }
  if (!S_ISREG(status.st_mode)) {
    throw unusable(fmt::format("{} is not a regular file", path), "write the data to a file first");
  }
  return file;
}

struct InputStream::State {
  File file;
  uint64_t size = 0;         // of the file
  uint64_t file_offset = 0;  // of what is taken from it next
  uint64_t read = 0;         // unpacked bytes
  bool packed = false, started = false;
  z_stream zlib{};
  std::array<std::byte, kPieceBytes> piece{};

  explicit State(File opened) : file(std::move(opened)), size(file.size()) {
    std::array<std::byte, sizeof kGzipMagic> magic{};
    if (size < magic.size()) return;
    file.pread_all(magic, 0);
    packed = std::equal(magic.begin(), magic.end(), kGzipMagic);
    if (!packed) return;
    constexpr int kGzipWindow = 15 + 16;  // the largest window; a gzip header before it
    HEADRACE_CHECK(inflateInit2(&zlib, kGzipWindow) == Z_OK, "no memory for zlib");
    started = true;
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (started) inflateEnd(&zlib);
  }

  uint64_t taken() const { return file_offset - zlib.avail_in; }  // by zlib

  void take_piece() {
    const auto bytes = static_cast<size_t>(std::min<uint64_t>(piece.size(), size - file_offset));
    file.pread_all(std::span(piece).first(bytes), file_offset);
    file_offset += bytes;
    zlib.next_in = reinterpret_cast<unsigned char*>(piece.data());
    zlib.avail_in = static_cast<uInt>(bytes);
  }

  size_t read_plain(std::span<std::byte> to) {
    const auto bytes = static_cast<size_t>(std::min<uint64_t>(to.size(), size - file_offset));
    file.pread_all(to.first(bytes), file_offset);
    file_offset += bytes;
    return bytes;
  }

  size_t read_packed(std::span<std::byte> to) {
    size_t done = 0;
    while (done < to.size() && !ended()) {
      if (zlib.avail_in == 0) {
        if (file_offset == size) {
          throw unusable(fmt::format("{} is cut short: its gzip stream does not end with its {} bytes",
                                     file.path(), size),
                         "copy the file again");
        }
        take_piece();
      }
      const auto room = static_cast<uInt>(std::min<size_t>(to.size() - done, 1 << 30));
      zlib.next_out = reinterpret_cast<unsigned char*>(to.data() + done);
      zlib.avail_out = room;
      const int result = inflate(&zlib, Z_NO_FLUSH);
      done += room - zlib.avail_out;
      if (result == Z_STREAM_END) {
        member_ended = true;
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        throw unusable(fmt::format("{} is damaged: gzip's data are not valid near byte {} of the file: {}",
                                   file.path(), taken(), zlib.msg != nullptr ? zlib.msg : "no reason given"),
                       "copy the file again");
      }
    }
    return done;
  }

  // At the end of a gzip member another may follow; anything else may not.
  bool ended() {
    if (!member_ended) return false;
    if (zlib.avail_in == 0 && file_offset < size) take_piece();
    if (zlib.avail_in == 0) return true;
    if (zlib.next_in[0] != static_cast<unsigned char>(kGzipMagic[0])) {
      throw unusable(fmt::format("{} is damaged: {} bytes follow the end of its gzip stream at byte {}",
                                 file.path(), size - taken(), taken()),
                     "copy the file again");
    }
    HEADRACE_CHECK(inflateReset(&zlib) == Z_OK);
    member_ended = false;
    return false;
  }

  bool member_ended = false;
};

InputStream::InputStream(const std::string& path) : InputStream(open_input_file(path)) {}
InputStream::InputStream(File file) : state_(std::make_unique<State>(std::move(file))) {}
InputStream::~InputStream() = default;
InputStream::InputStream(InputStream&&) noexcept = default;
InputStream& InputStream::operator=(InputStream&&) noexcept = default;

const std::string& InputStream::path() const { return state_->file.path(); }
bool InputStream::packed() const { return state_->packed; }
uint64_t InputStream::file_bytes() const { return state_->size; }
uint64_t InputStream::offset() const { return state_->read; }

size_t InputStream::read(std::span<std::byte> to) {
  const size_t bytes = state_->packed ? state_->read_packed(to) : state_->read_plain(to);
  state_->read += bytes;
  return bytes;
}

File InputStream::release() { return std::move(state_->file); }

}  // namespace headrace::storage
