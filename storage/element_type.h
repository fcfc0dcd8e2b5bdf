// The types that a tensor's elements have in files, by safetensors' names, and their values as numbers.
// Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace headrace::storage {

enum class ElementType : uint8_t {
  kOther,  // of which we know no values
  kBool,
  kU8,
  kI8,
  kF8E4M3,  // OCP 8-bit: no infinity, NaN where all bits behind the sign are set
  kF8E5M2,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
};

ElementType element_type(std::string_view name);  // "F32"; kOther for an unknown name
std::string element_type_name(ElementType type);  // "?" for kOther
uint64_t element_bytes(ElementType type);         // 0 for kOther

// Values of little-endian elements, as many as `values` has places: exact, but for integers beyond 2^53.
// `bytes` has exactly their size; the type is not kOther.
void to_doubles(ElementType type, std::span<const std::byte> bytes, std::span<double> values);

}  // namespace headrace::storage
