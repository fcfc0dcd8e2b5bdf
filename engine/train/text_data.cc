#include "engine/train/text_data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/math/random.h"
#include "storage/error.h"
#include "storage/hasher.h"

namespace headrace::train {
namespace {

constexpr uint64_t kFingerprintPart = 1 << 20;  // bytes at either end
constexpr uint64_t kByteTokens = 256;

Error unusable(const std::string& what, const std::string& advice) {
  return Error(ErrorKind::kUsage, what, advice);
}

}  // namespace

TextData::TextData(const TextDataOptions& options) : DataSet(options.path), options_(options) {
  HEADRACE_CHECK(options.seq > 0 && options.batch > 0);
  const std::string& path = options_.path;
  // Without O_NONBLOCK, opening a named pipe would wait for a writer that may
  // never come.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    throw unusable(fmt::format("cannot open the data file {}: {}", path, system_text(errno)),
                   "name a readable text file with --data FILE");
  }
  try {
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0) {
      throw unusable(fmt::format("cannot examine the data file {}: {}", path, system_text(errno)), "");
    }
    if (S_ISDIR(status.st_mode)) {
      throw unusable(fmt::format("the data file {} is a directory", path),
                     "name one text file with --data FILE");
    }
    if (!S_ISREG(status.st_mode)) {
      throw unusable(fmt::format("the data file {} is not a regular file", path),
                     "write the text to a file first; it is read at many places");
    }
    size_bytes_ = static_cast<uint64_t>(status.st_size);
    if (size_bytes_ == 0)
      throw unusable(fmt::format("the data file {} is empty", path), "give a file with text");
    if (size_bytes_ - 1 < options_.seq) {
      throw unusable(fmt::format("the data file {} is too short: {} bytes, and "
                                 "one sequence of {} tokens takes {}",
                                 path, size_bytes_, options_.seq, options_.seq + 1),
                     "give more text or a smaller --seq");
    }
    windows_ = (size_bytes_ - 1) / options_.seq;
    fingerprint_ = compute_fingerprint();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

TextData::~TextData() { ::close(descriptor_); }

void TextData::read(uint64_t offset, std::span<unsigned char> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw Error(ErrorKind::kFailed,
                  fmt::format("cannot read the data file {} at offset {} ({} bytes): {}", options_.path,
                              offset, bytes.size(), system_text(errno)),
                  "check the drive; the run goes on from its last step when started "
                  "again");
    }
    if (got == 0) {
      throw Error(ErrorKind::kFailed,
                  fmt::format("the data file {} ends at offset {}, but had {} "
                              "bytes when it was opened",
                              options_.path, offset, size_bytes_),
                  "put the file back as it was; the run goes on from its last "
                  "step when started again");
    }
    offset += static_cast<uint64_t>(got);
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
}

std::string TextData::compute_fingerprint() const {
  storage::Hasher hasher;
  std::vector<unsigned char> part(std::min(size_bytes_, kFingerprintPart));
  for (const uint64_t offset : {uint64_t{0}, size_bytes_ - part.size()}) {
    read(offset, part);
    hasher.add(std::as_bytes(std::span(part)));
  }
  return fmt::format("{}-{}", size_bytes_, hasher.hex());
}

std::string TextData::description() const {
  return fmt::format("{} bytes, {} sequences of {} tokens", size_bytes_, windows_, options_.seq);
}

uint64_t TextData::window_of(uint64_t sample) const {
  return math::permuted(options_.seed, sample / windows_, windows_, sample % windows_);
}

void TextData::fetch(uint64_t step, BatchData& batch) const {
  std::vector<uint64_t> windows(options_.batch);
  for (uint64_t j = 0; j < options_.batch; ++j) windows[j] = window_of(step * options_.batch + j);
  read_windows(windows, batch);
}

void TextData::read_windows(std::span<const uint64_t> windows, BatchData& batch) const {
  const uint64_t seq = options_.seq;
  batch.seq = seq;
  batch.inputs.resize(windows.size() * seq);
  batch.targets.resize(windows.size() * seq);
  batch.bytes.resize(seq + 1);
  for (size_t i = 0; i < windows.size(); ++i) {
    HEADRACE_CHECK(windows[i] < windows_, "window out of range");
    const uint64_t offset = windows[i] * seq;
    read(offset, batch.bytes);
    if (options_.vocabulary < 256) {
      const auto unknown = std::find_if(batch.bytes.begin(), batch.bytes.end(),
                                        [&](unsigned char byte) { return byte >= options_.vocabulary; });
      if (unknown != batch.bytes.end()) {
        throw unusable(fmt::format("the data file {} has byte {} at offset {}, "
                                   "but the model knows only {} tokens",
                                   options_.path, *unknown, offset + (unknown - batch.bytes.begin()),
                                   options_.vocabulary),
                       "use a model with a vocab_size of at least 256");
      }
    }
    std::copy(batch.bytes.begin(), batch.bytes.end() - 1,
              batch.inputs.begin() + static_cast<ptrdiff_t>(i * seq));
    std::copy(batch.bytes.begin() + 1, batch.bytes.end(),
              batch.targets.begin() + static_cast<ptrdiff_t>(i * seq));
  }
}

uint64_t TextData::evaluation_batches() const { return (windows_ + options_.batch - 1) / options_.batch; }

void TextData::fetch_evaluation(uint64_t index, BatchData& batch) const {
  std::vector<uint64_t> windows;
  const uint64_t first = index * options_.batch;
  for (uint64_t w = first; w < std::min(first + options_.batch, windows_); w++) windows.push_back(w);
  read_windows(windows, batch);
}

BatchData draw_tokens(uint64_t seed, uint64_t sequences, uint64_t seq, uint64_t vocabulary) {
  const uint64_t kinds = std::min(vocabulary, kByteTokens);  // the tokenizer makes bytes
  BatchData batch;
  batch.seq = seq;
  const auto token = [&](uint64_t index) {
    return int32_t(uint64_t{math::random_bits(seed, 0, index)} * kinds >> 32);
  };
  for (uint64_t i = 0; i < sequences * seq; i++) {
    batch.inputs.push_back(token(i));
    batch.targets.push_back(token(i + 1));
  }
  return batch;
}

}  // namespace headrace::train
