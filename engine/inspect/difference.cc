#include "engine/inspect/difference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

namespace headrace::inspect {
namespace {

using storage::SourceTensor;
using storage::TensorSource;
using storage::ValueField;

constexpr uint64_t kPieceElements = uint64_t{1} << 20;
constexpr size_t kRun = 4096;  // values that are summed at once

// One side: a field of a tensor, read in pieces.
struct Side {
  TensorSource& source;
  size_t tensor;
  ValueField field;
  std::vector<std::byte> bytes = {}, scratch = {};
  std::vector<double> values = {};

  uint64_t unit() const { return storage::element_bytes(field.type); }
  void read(uint64_t first, uint64_t count) {
    bytes.resize(count * unit());
    storage::read_values(source, tensor, field, first, bytes, scratch);
  }
  void convert(uint64_t count) {
    values.resize(count);
    storage::to_doubles(field.type, bytes, values);
  }
};

struct Sums {
  double absolute = 0, squares = 0, a_squares = 0;
  uint64_t finite = 0;
};

void add_run(std::span<const double> a, std::span<const double> b, Sums& sums, Difference& difference) {
  Sums run;
  for (size_t i = 0; i < a.size(); i++) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) continue;
    const double apart = std::abs(a[i] - b[i]);
    difference.max_absolute = std::max(difference.max_absolute, apart);
    run.absolute += apart;
    run.squares += apart * apart;
    run.a_squares += a[i] * a[i];
    run.finite++;
  }
  sums.absolute += run.absolute;
  sums.squares += run.squares;
  sums.a_squares += run.a_squares;
  sums.finite += run.finite;
}

bool same_value(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

void count_differing(const Side& a, const Side& b, Difference& difference) {
  const bool bits = a.field.type == b.field.type;
  const uint64_t unit = a.unit();
  for (size_t i = 0; i < a.values.size(); i++) {
    const bool same = bits ? std::memcmp(a.bytes.data() + i * unit, b.bytes.data() + i * unit, unit) == 0
                           : same_value(a.values[i], b.values[i]);
    if (same) continue;
    difference.differing++;
    if (!std::isfinite(a.values[i]) || !std::isfinite(b.values[i])) difference.incomparable++;
  }
}

Difference compare_field(Side a, Side b, const std::function<void(uint64_t)>& done_elements) {
  const SourceTensor& tensor = a.source.tensors()[a.tensor];
  Difference difference;
  difference.tensor = tensor.name;
  difference.field = a.field.name;
  difference.a_type = storage::element_type_name(a.field.type);
  difference.b_type = storage::element_type_name(b.field.type);
  difference.elements = tensor.elements;
  Sums sums;
  for (uint64_t first = 0; first < tensor.elements; first += kPieceElements) {
    const uint64_t count = std::min(kPieceElements, tensor.elements - first);
    a.read(first, count);
    b.read(first, count);
    a.convert(count);
    b.convert(count);
    if (a.field.type != b.field.type || a.bytes != b.bytes) count_differing(a, b, difference);
    for (size_t at = 0; at < count; at += kRun) {
      const size_t length = std::min<size_t>(kRun, count - at);
      add_run(std::span(a.values).subspan(at, length), std::span(b.values).subspan(at, length), sums,
              difference);
    }
    done_elements(count);
  }
  if (sums.finite > 0) difference.mean_absolute = sums.absolute / static_cast<double>(sums.finite);
  if (sums.squares > 0) {
    difference.relative_norm = sums.a_squares > 0 ? std::sqrt(sums.squares / sums.a_squares)
                                                  : std::numeric_limits<double>::infinity();
  }
  return difference;
}

std::string shown(const std::string& tensor, const std::string& field) {
  return field.empty() ? tensor : tensor + " (" + field + ")";
}

const ValueField* find(const std::vector<ValueField>& fields, const std::string& name) {
  const auto found =
      std::find_if(fields.begin(), fields.end(), [&](const ValueField& field) { return field.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

}  // namespace

bool Comparison::equal() const {
  return shapes.empty() && only_in_a.empty() && only_in_b.empty() && not_compared.empty() &&
         std::all_of(fields.begin(), fields.end(), [](const Difference& d) { return d.differing == 0; });
}

Comparison compare(TensorSource& a, TensorSource& b, const std::function<bool(const std::string&)>& wanted,
                   const std::function<void(double)>& done) {
  Comparison result;
  std::map<std::string, size_t> in_b;
  uint64_t elements = 1, done_elements = 0;
  for (size_t i = 0; i < b.tensors().size(); i++) {
    if (wanted(b.tensors()[i].name)) in_b.emplace(b.tensors()[i].name, i);
  }
  for (const SourceTensor& tensor : a.tensors()) {
    if (in_b.contains(tensor.name)) elements += tensor.elements * value_fields(tensor).size();
  }
  const auto count = [&](uint64_t more) {
    done_elements += more;
    done(static_cast<double>(done_elements) / static_cast<double>(elements));
  };
  for (size_t i = 0; i < a.tensors().size(); i++) {
    const SourceTensor& tensor = a.tensors()[i];
    if (!wanted(tensor.name)) continue;
    const auto other = in_b.extract(tensor.name);
    if (other.empty()) {
      result.only_in_a.push_back(tensor.name);
      continue;
    }
    const SourceTensor& b_tensor = b.tensors()[other.mapped()];
    if (b_tensor.shape != tensor.shape) {
      result.shapes.push_back({tensor.name, tensor.shape, b_tensor.shape});
      continue;
    }
    const std::vector<ValueField> a_fields = value_fields(tensor), b_fields = value_fields(b_tensor);
    if (a_fields.empty() || b_fields.empty()) result.not_compared.push_back(tensor.name);
    if (a_fields.empty() || b_fields.empty()) continue;
    for (const ValueField& field : a_fields) {
      const ValueField* same = find(b_fields, field.name);
      if (same == nullptr) {
        result.only_in_a.push_back(shown(tensor.name, field.name));
      } else {
        result.fields.push_back(compare_field({a, i, field}, {b, other.mapped(), *same}, count));
      }
    }
    for (const ValueField& field : b_fields) {
      if (find(a_fields, field.name) == nullptr) result.only_in_b.push_back(shown(tensor.name, field.name));
    }
  }
  for (const auto& [name, index] : in_b) result.only_in_b.push_back(name);
  return result;
}

}  // namespace headrace::inspect
