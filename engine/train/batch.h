// What a step works on: the rows that a data set gives for it, and how they are cut into micro-batches.
//
// A row is a token of a text, a sample of a table, a node of a graph. Rows come in units of `seq` rows: the
// sequences of a text, fixed groups of a table's samples. Micro-batches are whole units, and sums over rows
// start anew at each unit, so that no sum depends on how a step is cut.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/math/views.h"
#include "engine/train/graph.h"

namespace headrace::train {

// Views of the rows of one step.
struct Batch {
  uint64_t seq = 0;                       // rows of a unit; the last unit may have fewer
  std::span<const int32_t> inputs = {};   // token ids [rows], or
  std::span<const float> features = {};   // [rows, feature_columns]
  std::span<const int32_t> targets = {};  // class or next token [rows]; a negative one counts nothing; or
  std::span<const float> values = {};     // [rows, value_columns]
  uint64_t feature_columns = 0, value_columns = 0;
  const Graph* graph = nullptr;  // of nodes; the targets are theirs, or the graphs' in it
  // Where random numbers of the step come from; step 0: an evaluation, which draws none.
  uint64_t seed = 0, step = 0;
  // Unit i goes on where unit i of the batch before ended, unless lanes start anew: then what a model carries
  // from batch to batch counts as zero.
  bool starts_lanes = false;

  uint64_t rows() const {
    if (graph != nullptr) return graph->nodes();
    return values.empty() ? targets.size() : values.size() / value_columns;
  }
  uint64_t sequences() const { return (rows() + seq - 1) / seq; }  // units
};

// The same as a data set fills it; the buffers are reused from call to call.
struct BatchData {
  std::vector<int32_t> inputs = {}, targets = {};
  std::vector<float> features = {}, values = {};
  uint64_t seq = 0, feature_columns = 0, value_columns = 0;
  bool starts_lanes = false;
  std::vector<unsigned char> bytes = {};    // scratch of the data set
  std::shared_ptr<const Graph> graph = {};  // the same one in every batch of a data set

  Batch view() const {
    return {.seq = seq,
            .inputs = inputs,
            .features = features,
            .targets = targets,
            .values = values,
            .feature_columns = feature_columns,
            .value_columns = value_columns,
            .graph = graph.get(),
            .starts_lanes = starts_lanes};
  }
  uint64_t rows() const { return view().rows(); }
  uint64_t memory_bytes() const {
    return sizeof(float) * (inputs.size() + targets.size() + features.size() + values.size()) + bytes.size();
  }
  // What stays in memory beside it, where no data set says so.
  uint64_t kept_bytes() const { return graph ? graph->memory_bytes() : 0; }
};

// How a step is carried out; any policy gives the same bits.
struct ExecutionPolicy {
  uint64_t micro_batch = 1;       // units
  bool recompute_logits = false;  // in the backward pass, instead of keeping them
  bool recompute_layers = false;  // likewise what a layer computes between its input and its output
  bool blocks_outside =
      false;  // the loop over micro-batches lies inside each weight block, not around a layer
  // Weights that a loop over time multiplies with are read again at each time step, not held over the loop.
  bool streams_recurrent = false;

  // For the description: rows of a unit, 0 where units are sequences, and what rows are called.
  uint64_t unit_rows = 0;
  const char* row_name = "samples";

  std::string description() const;  // "micro-batches of 2 sequences, ..."
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
  std::span<const int32_t> inputs(size_t index) const { return part(batch_.inputs, index, 1); }
  std::span<const int32_t> targets(size_t index) const { return part(batch_.targets, index, 1); }
  math::ConstMatrix features(size_t index) const {
    return matrix(batch_.features, index, batch_.feature_columns);
  }
  math::ConstMatrix values(size_t index) const { return matrix(batch_.values, index, batch_.value_columns); }
  int64_t tokens(size_t index) const {  // rows
    return int64_t(std::min(micro_rows(), batch_.rows() - first_row(index)));
  }
  uint64_t first_row(size_t index) const { return index * micro_rows(); }
  size_t sequences() const { return size_t(batch_.sequences()); }
  size_t first_sequence(size_t index) const { return index * size_t(policy_.micro_batch); }
  int64_t seq() const { return int64_t(batch_.seq); }
  int64_t total_tokens() const { return int64_t(batch_.rows()); }
  const Batch& batch() const { return batch_; }
  const ExecutionPolicy& policy() const { return policy_; }

 private:
  uint64_t micro_rows() const { return policy_.micro_batch * batch_.seq; }
  template <class Element>
  std::span<const Element> part(std::span<const Element> all, size_t index, uint64_t columns) const {
    return all.subspan(first_row(index) * columns, uint64_t(tokens(index)) * columns);
  }
  math::ConstMatrix matrix(std::span<const float> all, size_t index, uint64_t columns) const {
    return {part(all, index, columns).data(), tokens(index), int64_t(columns), int64_t(columns)};
  }

  Batch batch_;
  ExecutionPolicy policy_;
  size_t count_;
};

}  // namespace headrace::train
