#include "storage/npy_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

constexpr size_t kMostDimensions = 32;  // NumPy's own limit
constexpr std::string_view kMagic{"\x93NUMPY", 6};
constexpr uint64_t kPieceBytes = 8192;  // converted at a time

struct Known {
  std::string_view description;
  ElementType type;
};

constexpr std::array<Known, 12> kKnown{{{"|b1", ElementType::kBool},
                                        {"|u1", ElementType::kU8},
                                        {"|i1", ElementType::kI8},
                                        {"<u2", ElementType::kU16},
                                        {"<i2", ElementType::kI16},
                                        {"<u4", ElementType::kU32},
                                        {"<i4", ElementType::kI32},
                                        {"<u8", ElementType::kU64},
                                        {"<i8", ElementType::kI64},
                                        {"<f2", ElementType::kF16},
                                        {"<f4", ElementType::kF32},
                                        {"<f8", ElementType::kF64}}};

[[noreturn]] void refuse(const std::string& path, const std::string& why,
                         const std::string& advice = "Save the array again with numpy.save") {
  throw Error(ErrorKind::kUsage, fmt::format("{}: {}", path, why), advice);
}

// A dictionary of three entries as Python writes it: {'descr': '<f4', 'fortran_order': False, 'shape': (2,
// 3), }
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  NpyHeader parse() {
    expect('{');
    while (!take('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr") {
        once(has_type_, key);
        header_.type = type();
      } else if (key == "fortran_order") {
        once(has_order_, key);
        read_order();
      } else if (key == "shape") {
        once(has_shape_, key);
        read_shape();
      } else {
        wrong(fmt::format("a field '{}'", printable(key, 60)));
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) wrong("something behind its end");
    if (!has_type_ || !has_order_ || !has_shape_) wrong("no descr, no fortran_order or no shape");
    return header_;
  }

 private:
  [[noreturn]] void wrong(const std::string& what) const {
    refuse(path_, fmt::format("is no sound .npy file: its header has {} (at byte {} of it)", what, at_));
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) at_++;
  }
  bool take(char wanted) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    at_++;
    return true;
  }
  void expect(char wanted) {
    if (!take(wanted)) wrong(fmt::format("no '{}' where one belongs", wanted));
  }
  bool take_word(std::string_view word) {
    skip_space();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  std::string_view quoted() {
    const char quote = take('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const size_t first = at_, end = text_.find(quote, first);
    if (end == text_.npos) wrong("a text without an end");
    at_ = end + 1;
    return text_.substr(first, end - first);
  }
  void once(bool& has, std::string_view key) const {
    if (has) wrong(fmt::format("two fields '{}'", key));
    has = true;
  }
  ElementType type() {
    skip_space();
    if (text_.substr(at_).starts_with('[')) {
      refuse(path_, "is an array of records", "Save its fields as arrays of their own");
    }
    const std::string_view description = quoted();
    for (const Known& known : kKnown) {
      if (description == known.description) return known.type;
    }
    if (description.find('O') != description.npos) {
      refuse(path_, "is an array of Python objects, which would have to be run to be read",
             "Save an array of numbers, as by array.astype(numpy.float32)");
    }
    refuse(path_,
           fmt::format("has elements of type '{}', not little-endian floats of 16 to 64 bits, integers or "
                       "truth values",
                       printable(description, 60)),
           "Save it as one of these, as by array.astype('<f4')");
  }
  void read_order() {
    if (take_word("False")) return;
    if (!take_word("True")) wrong("neither True nor False as its fortran_order");
    refuse(path_, "is stored column by column (Fortran's order)",
           "Save it row by row, as by numpy.ascontiguousarray(array)");
  }
  void read_shape() {
    expect('(');
    while (!take(')')) {
      skip_space();
      const size_t first = at_;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') at_++;
      const auto length = parse_count(text_.substr(first, at_ - first));
      if (!length) wrong("a shape of other things than whole numbers below 2^64");
      if (header_.shape.size() == kMostDimensions) wrong("too many dimensions");
      header_.shape.push_back(*length);
      if (take(',')) continue;
      // One number without a comma is a number in brackets.
      if (header_.shape.size() == 1) wrong("a shape that is no tuple");
      expect(')');
      break;
    }
  }

  std::string_view text_;
  const std::string& path_;
  NpyHeader header_;
  size_t at_ = 0;
  bool has_type_ = false, has_order_ = false, has_shape_ = false;
};

template <typename Element, typename Value>
void convert(std::span<const std::byte> bytes, std::span<Value> to) {
  for (size_t i = 0; i < to.size(); i++) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof element, sizeof element);
    to[i] = static_cast<Value>(element);
  }
}

void convert_integers(ElementType type, std::span<const std::byte> bytes, std::span<int64_t> to) {
  switch (type) {
    case ElementType::kBool:
    case ElementType::kU8:
      return convert<uint8_t>(bytes, to);
    case ElementType::kI8:
      return convert<int8_t>(bytes, to);
    case ElementType::kU16:
      return convert<uint16_t>(bytes, to);
    case ElementType::kI16:
      return convert<int16_t>(bytes, to);
    case ElementType::kU32:
      return convert<uint32_t>(bytes, to);
    case ElementType::kI32:
      return convert<int32_t>(bytes, to);
    default:
      return convert<int64_t>(bytes, to);
  }
}

}  // namespace

NpyHeader parse_npy_header(std::string_view text, const std::string& path) {
  NpyHeader header = HeaderParser(text, path).parse();
  header.elements = 1;
  uint64_t bytes = element_bytes(header.type);
  // A dimension of nothing does not make room for others that overflow.
  for (const uint64_t length : header.shape) {
    if (__builtin_mul_overflow(bytes, std::max<uint64_t>(length, 1), &bytes)) {
      refuse(path, fmt::format("is no sound .npy file: a shape of {} does not fit in 64 bits", header.shape));
    }
    header.elements *= length;
  }
  return header;
}

NpyFile NpyFile::open(const std::string& path) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer that may never come.
  File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK), path);
  if (!file.is_open()) throw Error(ErrorKind::kUsage, fmt::format("{}: {}", path, system_text(errno)));
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) refuse(path, system_text(errno), "");
  if (!S_ISREG(status.st_mode)) refuse(path, "is not a file", "Name a file that numpy.save wrote");
  return NpyFile(std::move(file));
}

NpyFile::NpyFile(File file) : file_(std::move(file)) {
  const uint64_t file_bytes = file_.size();
  std::array<unsigned char, 12> start{};
  uint64_t header_at = 10;
  const auto cut_short = [&] { refuse(path(), fmt::format("is cut short: it has {} bytes", file_bytes)); };
  file_.pread_all(std::as_writable_bytes(std::span(start)).first(std::min(file_bytes, start.size())), 0);
  if (file_bytes < kMagic.size() || std::memcmp(start.data(), kMagic.data(), kMagic.size()) != 0)
    refuse(path(), "is no .npy file");
  if (file_bytes < header_at) cut_short();
  uint64_t header_bytes = start[8] + uint64_t{start[9]} * 256;
  if (start[6] == 2 || start[6] == 3) {
    header_at = 12;
    if (file_bytes < header_at) cut_short();
    header_bytes += uint64_t{start[10]} * 65536 + uint64_t{start[11]} * (1 << 24);
  }
  if (start[6] < 1 || start[6] > 3 || start[7] != 0)
    refuse(path(), fmt::format("has version {}.{} of the .npy format, not 1.0 to 3.0", start[6], start[7]));
  if (header_bytes > kMostNpyHeader)
    refuse(path(), fmt::format("is no sound .npy file: its header would have {} bytes", header_bytes));
  data_offset_ = header_at + header_bytes;
  if (file_bytes < data_offset_) cut_short();
  std::string text(header_bytes, '\0');
  file_.pread_all(std::as_writable_bytes(std::span(text)), header_at);
  header_ = parse_npy_header(text, path());
  const uint64_t wanted = header_.elements * element_bytes(header_.type), has = file_bytes - data_offset_;
  if (has != wanted) {
    refuse(path(), fmt::format("{}: its header promises {} bytes of elements, and {} follow",
                               has < wanted ? "is cut short" : "has too many bytes", wanted, has));
  }
}

std::string NpyFile::shape_text() const { return fmt::format("{}", header_.shape); }

uint64_t NpyFile::rows() const { return header_.shape.empty() ? 1 : header_.shape[0]; }

uint64_t NpyFile::columns() const {
  uint64_t columns = 1;
  for (size_t i = 1; i < header_.shape.size(); i++) columns *= header_.shape[i];
  return columns;
}

bool NpyFile::has_integers() const {
  return type() != ElementType::kF16 && type() != ElementType::kF32 && type() != ElementType::kF64;
}

void NpyFile::read_bytes(uint64_t first, std::span<std::byte> to) const {
  const uint64_t unit = element_bytes(type());
  HEADRACE_CHECK(first <= elements() && to.size() <= (elements() - first) * unit);
  file_.pread_all(to, data_offset_ + first * unit);
}

void NpyFile::read_floats(uint64_t first, std::span<float> to) const {
  if (type() == ElementType::kF32) return read_bytes(first, std::as_writable_bytes(to));
  const uint64_t unit = element_bytes(type());
  std::array<std::byte, kPieceBytes> piece;
  std::array<double, kPieceBytes> values;
  while (!to.empty()) {
    const uint64_t count = std::min<uint64_t>(to.size(), kPieceBytes / unit);
    const std::span<std::byte> bytes = std::span(piece).first(count * unit);
    read_bytes(first, bytes);
    to_doubles(type(), bytes, std::span(values).first(count));
    std::transform(values.begin(), values.begin() + static_cast<ptrdiff_t>(count), to.begin(),
                   [](double value) { return static_cast<float>(value); });
    to = to.subspan(count);
    first += count;
  }
}

void NpyFile::read_integers(uint64_t first, std::span<int64_t> to) const {
  if (!has_integers())
    refuse(path(), "holds floats where whole numbers are needed", "Save it as by array.astype(numpy.int64)");
  const uint64_t unit = element_bytes(type());
  std::array<std::byte, kPieceBytes> piece;
  while (!to.empty()) {
    const uint64_t count = std::min<uint64_t>(to.size(), kPieceBytes / unit);
    const std::span<std::byte> bytes = std::span(piece).first(count * unit);
    read_bytes(first, bytes);
    convert_integers(type(), bytes, to.first(count));
    for (size_t i = 0; type() == ElementType::kU64 && i < count; i++) {
      if (to[i] >= 0) continue;
      refuse(path(),
             fmt::format("element {} is {}, more than 2^63 - 1", first + i, static_cast<uint64_t>(to[i])),
             "");
    }
    to = to.subspan(count);
    first += count;
  }
}

}  // namespace headrace::storage
