// A data set of text: every byte is a token. The file is read in place, a batch at a time; it is never in
// memory whole and never mapped.
//
// The text is cut into windows of seq + 1 bytes that start at multiples of seq: a window's inputs are its
// first seq bytes, its targets the last seq. A file of n bytes has floor((n - 1) / seq) windows. An epoch
// takes each window once, in an order that depends on the seed and the epoch alone; epochs follow each other
// without a gap, also inside a batch. The order is computed, not stored: constant memory, and a resume at any
// step is immediate.
//
// Threads: fetch() and read_windows() may be called from several threads at once, into different batches.
// Failure: Error. Faults of the file when it is opened are kUsage; a file that changes or fails later,
// kFailed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/train/data_set.h"

namespace headrace::train {

struct TextDataOptions {
  std::string path;
  uint64_t seq = 0;
  uint64_t batch = 0;
  uint64_t seed = 0;
  uint64_t vocabulary = 256;  // tokens that the model knows; a byte beyond is an Error that names its offset
};

class TextData : public DataSet {
 public:
  explicit TextData(const TextDataOptions& options);
  ~TextData() override;
  TextData(const TextData&) = delete;
  TextData& operator=(const TextData&) = delete;

  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t windows() const { return windows_; }
  // "SIZE-HASH" over the file's size, first and last MiB.
  const std::string& fingerprint() const override { return fingerprint_; }
  DataShape shape() const override { return {.samples = windows_}; }
  std::string description() const override;

  // The batch of the step that has `step` steps before it: samples step * batch + j of the endless sequence
  // of epochs.
  void fetch(uint64_t step, BatchData& batch) const override;
  // Which window is sample `sample` of that sequence.
  uint64_t window_of(uint64_t sample) const;
  // The windows named, in that order.
  void read_windows(std::span<const uint64_t> windows, BatchData& batch) const;
  // A batch of windows at a time.
  uint64_t evaluation_batches() const override;
  void fetch_evaluation(uint64_t index, BatchData& batch) const override;

 private:
  void read(uint64_t offset, std::span<unsigned char> bytes) const;
  std::string compute_fingerprint() const;

  TextDataOptions options_;
  int descriptor_ = -1;
  uint64_t size_bytes_ = 0, windows_ = 0;
  std::string fingerprint_;
};

// Of evenly drawn tokens below `vocabulary`, and their next tokens: `sequences` rows of `seq`; a function of
// the seed.
BatchData draw_tokens(uint64_t seed, uint64_t sequences, uint64_t seq, uint64_t vocabulary);

}  // namespace headrace::train
