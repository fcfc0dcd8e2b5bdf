#include "engine/train/model.h"

namespace headrace::train {

uint64_t parameter_count(const Model& model, const storage::Layout& layout) {
  uint64_t count = 0;
  for (storage::TensorId id = 0; id < layout.tensors().size(); id++)
    if (layout.tensor(id).slots == 2 && !model.is_state(id))
      count += layout.tensor(id).rows * layout.tensor(id).columns;
  return count;
}

}  // namespace headrace::train
