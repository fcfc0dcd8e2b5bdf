#include "engine/train/state_tensor.h"

#include "engine/math/kernels.h"

namespace headrace::train {

void assign_state(stream::BlockPlanes planes, const storage::BlockLayout& block, std::byte* weights,
                  std::byte* moments, const float* next) {
  // The low plane is the first of the second entry where the products take the high one alone.
  std::byte* low = planes.weight_planes > 1 ? weights + block.planes[1].offset : moments;
  math::split_planes(next, int64_t(block.elements), reinterpret_cast<uint16_t*>(weights),
                     reinterpret_cast<uint16_t*>(low));
}

}  // namespace headrace::train
