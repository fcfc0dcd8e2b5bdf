#include "storage/element_type.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "storage/error.h"

namespace headrace::storage {
namespace {

struct Known {
  const char* name;
  ElementType type;
  uint64_t bytes;
};

constexpr std::array<Known, 15> kKnown{{{"BOOL", ElementType::kBool, 1},
                                        {"U8", ElementType::kU8, 1},
                                        {"I8", ElementType::kI8, 1},
                                        {"F8_E4M3", ElementType::kF8E4M3, 1},
                                        {"F8_E5M2", ElementType::kF8E5M2, 1},
                                        {"U16", ElementType::kU16, 2},
                                        {"I16", ElementType::kI16, 2},
                                        {"F16", ElementType::kF16, 2},
                                        {"BF16", ElementType::kBF16, 2},
                                        {"U32", ElementType::kU32, 4},
                                        {"I32", ElementType::kI32, 4},
                                        {"F32", ElementType::kF32, 4},
                                        {"U64", ElementType::kU64, 8},
                                        {"I64", ElementType::kI64, 8},
                                        {"F64", ElementType::kF64, 8}}};

// A binary floating-point number of few bits: sign, exponent, fraction, with IEEE's bias and subnormals.
double small_float(uint32_t bits, int exponent_bits, int fraction_bits, bool has_infinity) {
  const uint32_t fraction = bits & ((1U << fraction_bits) - 1);
  const uint32_t exponent = bits >> fraction_bits & ((1U << exponent_bits) - 1);
  const double sign = (bits >> (exponent_bits + fraction_bits) & 1) != 0 ? -1 : 1;
  const uint32_t all = (1U << exponent_bits) - 1, most_fraction = (1U << fraction_bits) - 1;
  if (exponent == all && has_infinity) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == all && fraction == most_fraction) return std::numeric_limits<double>::quiet_NaN();
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double significand = exponent == 0 ? fraction : fraction + (1U << fraction_bits);
  return sign *
         std::ldexp(significand, static_cast<int>(exponent == 0 ? 1 : exponent) - bias - fraction_bits);
}

template <typename Element, typename Convert>
void convert(std::span<const std::byte> bytes, std::span<double> values, const Convert& value_of) {
  for (size_t i = 0; i < values.size(); i++) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof element, sizeof element);
    values[i] = static_cast<double>(value_of(element));
  }
}

template <typename Element>
void convert_plain(std::span<const std::byte> bytes, std::span<double> values) {
  convert<Element>(bytes, values, [](Element element) { return element; });
}

}  // namespace

ElementType element_type(std::string_view name) {
  for (const Known& known : kKnown) {
    if (name == known.name) return known.type;
  }
  return ElementType::kOther;
}

std::string element_type_name(ElementType type) {
  for (const Known& known : kKnown) {
    if (type == known.type) return known.name;
  }
  return "?";
}

uint64_t element_bytes(ElementType type) {
  for (const Known& known : kKnown) {
    if (type == known.type) return known.bytes;
  }
  return 0;
}

void to_doubles(ElementType type, std::span<const std::byte> bytes, std::span<double> values) {
  HEADRACE_CHECK(type != ElementType::kOther && bytes.size() == values.size() * element_bytes(type));
  switch (type) {
    case ElementType::kOther:
      break;
    case ElementType::kBool:
    case ElementType::kU8:
      return convert_plain<uint8_t>(bytes, values);
    case ElementType::kI8:
      return convert_plain<int8_t>(bytes, values);
    case ElementType::kF8E4M3:
      return convert<uint8_t>(bytes, values, [](uint8_t bits) { return small_float(bits, 4, 3, false); });
    case ElementType::kF8E5M2:
      return convert<uint8_t>(bytes, values, [](uint8_t bits) { return small_float(bits, 5, 2, true); });
    case ElementType::kU16:
      return convert_plain<uint16_t>(bytes, values);
    case ElementType::kI16:
      return convert_plain<int16_t>(bytes, values);
    case ElementType::kF16:
      return convert<uint16_t>(bytes, values, [](uint16_t bits) { return small_float(bits, 5, 10, true); });
    case ElementType::kBF16:
      return convert<uint16_t>(bytes, values,
                               [](uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); });
    case ElementType::kU32:
      return convert_plain<uint32_t>(bytes, values);
    case ElementType::kI32:
      return convert_plain<int32_t>(bytes, values);
    case ElementType::kF32:
      return convert_plain<float>(bytes, values);
    case ElementType::kU64:
      return convert_plain<uint64_t>(bytes, values);
    case ElementType::kI64:
      return convert_plain<int64_t>(bytes, values);
    case ElementType::kF64:
      return convert_plain<double>(bytes, values);
  }
}

}  // namespace headrace::storage
