// What the trainer knows of a model: its tensors, their first values, and its code over a Context.
//
// A model's training and evaluation code is called in dry runs and in earnest (engine/stream/context.h); what
// it calls may depend only on its configuration, the execution policy and the batch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/stream/context.h"
#include "engine/train/batch.h"
#include "engine/train/metrics.h"
#include "storage/layout.h"

namespace headrace::train {

class Model {
 public:
  virtual ~Model() = default;
  // The tensor table, without planes and block rows: these are the trainer's. A tensor of one slot is frozen:
  // a matrix of float32 that comes from the data and never changes.
  virtual std::vector<storage::TensorSpec> tensors() const = 0;
  // The layout of tensors(), which must outlive the model's further use.
  virtual void bind(const storage::Layout& layout) = 0;
  // First values of rows [first_row, ...) of a tensor, `values.size()` elements. Depends on seed, tensor and
  // position alone. Any thread.
  virtual void initialise(storage::TensorId tensor, uint64_t first_row, uint64_t seed,
                          std::span<float> values) const = 0;
  // Whether the optimizer's weight decay applies to the tensor.
  virtual bool decays(storage::TensorId tensor) const = 0;
  // Whether the tensor is no parameter but state that commits with the step: the running statistics of a
  // norm, what a recurrent layer carries from window to window. It is a bundle; what is given as its gradient
  // is its next value, which replaces it where parameters are updated (and is dropped where a step is
  // skipped).
  virtual bool is_state(storage::TensorId) const { return false; }
  // Whether rows of the tensor are looked up, rather than only multiplied by: pruning and quantization leave
  // it alone unless they are told not to.
  virtual bool is_embedding(storage::TensorId) const { return false; }
  // Rows that stand for data where there are none, to plan with: `samples` of them, sequences of `seq` tokens
  // or rows of a table. A function of the seed.
  virtual void draw(uint64_t seed, uint64_t samples, uint64_t seq, BatchData& batch) const = 0;
  // Whether policies that compute again make a difference.
  virtual bool recomputes() const { return false; }
  // Whether ExecutionPolicy::streams_recurrent does.
  virtual bool loops_over_time() const { return false; }

  // Forward and backward. Afterwards loss() is the mean over the batch's rows.
  virtual void train(stream::Context& context, const Batch& batch, const ExecutionPolicy& policy) = 0;
  virtual void evaluate(stream::Context& context, const Batch& batch, const ExecutionPolicy& policy) = 0;
  virtual double loss() const = 0;
  virtual Task task() const = 0;
  // What the rows of a batch are called: "tokens", "samples", "nodes".
  virtual const char* row_name() const { return task() == Task::kNextToken ? "tokens" : "samples"; }
  virtual const char* target_name() const { return row_name(); }  // what has a target each
  virtual Metrics metrics() const { return {}; }                  // of the last evaluation
};

// Elements of the tensors that are parameters.
uint64_t parameter_count(const Model& model, const storage::Layout& layout);

// The plane of frozen tensors. A weight's by name: checkpoints of weights alone have it.
inline storage::Plane frozen_plane() { return {"weight.float32", sizeof(float)}; }

}  // namespace headrace::train
