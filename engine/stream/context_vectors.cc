// Bundles of vectors: read as float32, their gradients added up, the models' state among them.
#include <algorithm>

#include "engine/math/kernels.h"
#include "engine/stream/context.h"

namespace headrace::stream {

Tensor Context::load_vectors(const Parameter& bundle) { return load(bundle, false); }

Tensor Context::load_state(const Parameter& bundle) { return load(bundle, true); }

Tensor Context::load(const Parameter& bundle, bool exact) {
  const Tensor values = tensor(1, bundle.rows);
  forward({.weight = bundle,
           .exact = exact,
           .work = [&](const BlockRows&, size_t) { return Work{.writes = {values}}; },
           .run =
               [&](const BlockRows& rows, const math::WeightView& w, size_t, Workspace) {
                 math::join_planes(w.high, w.low, rows.count, matrix(values).data + rows.first);
               }});
  return values;
}

Tensor Context::gradient_of_vectors(const Parameter& bundle) {
  const BlockId block = layout_.first_block(bundle.tensor);
  const Tensor gradient{.entry = space_.gradient(block), .rows = 1, .columns = bundle.rows};
  if (!gradient_exists_[block])
    compute({.writes = {gradient}},
            [&](Workspace) { std::fill_n(matrix(gradient).data, bundle.rows, 0.0F); });
  return gradient;
}

void Context::end_vectors(const Parameter& bundle) {
  backward({.weight = bundle,
            .reads_weight = false,
            .work = [](const BlockRows&, size_t) { return Work{}; },
            .run = [](const BlockRows&, const math::WeightView&, size_t, math::Matrix, math::Accumulate,
                      Workspace) {}});
}

}  // namespace headrace::stream
