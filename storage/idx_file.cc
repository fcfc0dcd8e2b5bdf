#include "storage/idx_file.h"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <utility>

#include "storage/error.h"
#include "storage/input_stream.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kMostElements = uint64_t{1} << 50;
constexpr uint64_t kMostDeflated = 1032;  // bytes that a byte of a gzip stream unpacks to

Error unusable(const std::string& path, const std::string& problem, const std::string& advice) {
  return Error(ErrorKind::kUsage, fmt::format("{}: {}", path, problem), advice);
}

Error cut_short(const std::string& path, uint64_t needed, uint64_t has) {
  return unusable(path,
                  fmt::format("is cut short: its header says {} bytes in all, and it has {}", needed, has),
                  "copy the file again");
}

Error too_long(const std::string& path, uint64_t needed) {
  return unusable(path, fmt::format("has bytes after the {} that its header says", needed),
                  "copy the file again");
}

// Elements of the stream into a file without a name, which begins with them.
File unpack(InputStream& stream, const IdxHeader& header, const std::string& scratch_folder) {
  const uint64_t needed = header.bytes + header.elements;
  // Before any room is made for it.
  if (needed / kMostDeflated > stream.file_bytes())
    throw unusable(stream.path(),
                   fmt::format("is cut short: its header says {} bytes, more than {} bytes of gzip can hold",
                               needed, stream.file_bytes()),
                   "copy the file again");
  BlockFile scratch = open_buffered_temporary_for_blocks(scratch_folder);
  scratch.file.reserve(header.elements);
  std::array<std::byte, 64 * 1024> piece;
  for (uint64_t done = 0; done < header.elements;) {
    const uint64_t wanted = std::min<uint64_t>(piece.size(), header.elements - done);
    const size_t got = stream.read(std::span(piece).first(size_t(wanted)));
    if (got == 0) throw cut_short(stream.path(), needed, stream.offset());
    scratch.file.pwrite_all(std::span(piece).first(got), done);
    done += got;
  }
  if (stream.read(std::span(piece).first(1)) != 0) throw too_long(stream.path(), needed);
  return std::move(scratch.file);
}

}  // namespace

IdxHeader parse_idx_header(std::span<const std::byte> bytes, const std::string& path) {
  const auto byte = [&](size_t i) { return std::to_integer<uint64_t>(bytes[i]); };
  if (bytes.size() < 4 || byte(0) != 0 || byte(1) != 0)
    throw unusable(path, "is not an idx file: these begin with two zero bytes",
                   "give a file of MNIST's format, packed by gzip or not");
  if (byte(2) != 8)
    throw unusable(path, fmt::format("has elements of type {:#04x}, and only 0x08 is read: bytes", byte(2)),
                   "give the values as unsigned bytes, or as .npy or CSV");
  const uint64_t dimensions = byte(3);
  if (dimensions < 1 || dimensions > kMostIdxDimensions)
    throw unusable(path, fmt::format("has {} dimensions, not 1 to {}", dimensions, kMostIdxDimensions),
                   "copy the file again");
  IdxHeader header{.elements = 1, .bytes = 4 + 4 * dimensions};
  if (bytes.size() < header.bytes) throw cut_short(path, header.bytes, bytes.size());
  for (size_t d = 0; d < dimensions; d++) {
    const uint64_t size =
        byte(4 + 4 * d) << 24 | byte(5 + 4 * d) << 16 | byte(6 + 4 * d) << 8 | byte(7 + 4 * d);
    if (size == 0)
      throw unusable(path, fmt::format("is empty: dimension {} of its header is 0", d + 1),
                     "give a file with data");
    if (size > kMostElements / header.elements)
      throw unusable(path, "has dimensions of more elements than a file can hold", "copy the file again");
    header.shape.push_back(size);
    header.elements *= size;
  }
  return header;
}

IdxFile IdxFile::open(const std::string& path, const std::string& scratch_folder) {
  InputStream stream(path);
  std::array<std::byte, kMostIdxHeader> start{};
  // No more than the header is taken from the stream: its length is in the first four bytes.
  size_t got = stream.read(std::span(start).first(4));
  if (got == 4) {
    const uint64_t dimensions = std::min<uint64_t>(std::to_integer<uint64_t>(start[3]), kMostIdxDimensions);
    got += stream.read(std::span(start).subspan(4, size_t(4 * dimensions)));
  }
  IdxFile idx;
  idx.path_ = path;
  idx.header_ = parse_idx_header(std::span(start).first(got), path);
  if (stream.packed()) {
    idx.file_ = unpack(stream, idx.header_, scratch_folder);
    return idx;
  }
  const uint64_t needed = idx.header_.bytes + idx.header_.elements;
  if (stream.file_bytes() < needed) throw cut_short(path, needed, stream.file_bytes());
  if (stream.file_bytes() > needed) throw too_long(path, needed);
  idx.file_ = stream.release();
  idx.data_offset_ = idx.header_.bytes;
  return idx;
}

void IdxFile::read(uint64_t first, std::span<std::byte> to) const {
  HEADRACE_CHECK(first <= header_.elements && to.size() <= header_.elements - first);
  file_.pread_all(to, data_offset_ + first);
}

}  // namespace headrace::storage
