// What the trainer knows of a model: its tensors, their first values, and its code over a Context.
//
// A model's training and evaluation code is called in dry runs and in earnest (engine/stream/context.h); what
// it calls may depend only on its configuration, the execution policy and the batch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/stream/context.h"
#include "storage/layout.h"

namespace headrace::train {

// The tokens of one step. Sequences are consecutive runs of `seq` tokens.
struct Batch {
  uint64_t seq = 0;
  std::span<const int32_t> inputs, targets;  // [sequences * seq]; a negative target counts nothing
  uint64_t sequences() const { return inputs.size() / seq; }
};

// How a step is carried out; any policy gives the same bits.
struct ExecutionPolicy {
  uint64_t micro_batch = 1;       // sequences
  bool recompute_logits = false;  // in the backward pass, instead of keeping them
  bool recompute_layers = false;  // likewise what a layer computes between its input and its output
  bool blocks_outside =
      false;  // the loop over micro-batches lies inside each weight block, not around a layer

  std::string description() const;
};

// Micro-batches [first, last) that a layer is asked for in one call.
struct Span {
  size_t first = 0, last = 0;
  size_t size() const { return last - first; }
};

class MicroBatches {
 public:
  MicroBatches(const Batch& batch, const ExecutionPolicy& policy);
  size_t count() const { return count_; }
  std::vector<Span> spans() const;  // one a micro-batch, or one for all
  std::span<const int32_t> inputs(size_t index) const { return part(batch_.inputs, index); }
  std::span<const int32_t> targets(size_t index) const { return part(batch_.targets, index); }
  int64_t tokens(size_t index) const { return int64_t(inputs(index).size()); }
  size_t sequences() const { return size_t(batch_.sequences()); }
  size_t first_sequence(size_t index) const { return index * size_t(policy_.micro_batch); }
  int64_t seq() const { return int64_t(batch_.seq); }
  int64_t total_tokens() const { return int64_t(batch_.inputs.size()); }

 private:
  std::span<const int32_t> part(std::span<const int32_t> all, size_t index) const;

  Batch batch_;
  ExecutionPolicy policy_;
  size_t count_;
};

class Model {
 public:
  virtual ~Model() = default;
  // The tensor table, without planes, slots and block rows: these are the trainer's.
  virtual std::vector<storage::TensorSpec> tensors() const = 0;
  // The layout of tensors(), which must outlive the model's further use.
  virtual void bind(const storage::Layout& layout) = 0;
  // First values of rows [first_row, ...) of a tensor, `values.size()` elements. Depends on seed, tensor and
  // position alone. Any thread.
  virtual void initialise(storage::TensorId tensor, uint64_t first_row, uint64_t seed,
                          std::span<float> values) const = 0;
  virtual uint64_t vocabulary() const = 0;  // token ids are below it
  // Whether the optimizer's weight decay applies to the tensor.
  virtual bool decays(storage::TensorId tensor) const = 0;

  // Forward and backward. Afterwards loss() is the mean over the batch's tokens.
  virtual void train(stream::Context& context, const Batch& batch, const ExecutionPolicy& policy) = 0;
  virtual void evaluate(stream::Context& context, const Batch& batch, const ExecutionPolicy& policy) = 0;
  virtual double loss() const = 0;
};

}  // namespace headrace::train
