// XXH3 with the widest vectors that the processor has, chosen at run time: twice the rate of the compiled-in
// 16-byte ones, and every byte that is read or written passes through it. The values are the same.
// Only for checksum.cc and hasher.cc.
#pragma once

#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif
