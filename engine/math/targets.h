// Included before Highway's foreach_target.h by every file with vector kernels: the targets to compile for.
// Only those with a fused multiply-add give the promised bits; where a processor has none, the scalar target
// asks std::fma. EMU128 is off because its MulAdd rounds twice (and g++ 12 builds without it anyway).
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#define HWY_BROKEN_EMU128 1
