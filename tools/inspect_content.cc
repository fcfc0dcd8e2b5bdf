#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "storage/fault_list.h"
#include "storage/text.h"
#include "tools/inspect_report.h"

namespace headrace::tools {
namespace {

using inspect::Comparison;
using inspect::Difference;
using nlohmann::ordered_json;
using storage::SourceInfo;
using storage::TensorSource;

constexpr size_t kMostShown = 20;  // faults and names in a text

std::string dumped(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// JSON has no such numbers.
ordered_json number(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(); }

std::string field_name(const std::string& tensor, const std::string& field) {
  return printable(field.empty() ? tensor : tensor + " (" + field + ")");
}

std::string sparkline(const inspect::Histogram& histogram, bool utf8) {
  static constexpr std::array<const char*, 9> kBlocks{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr std::array<const char*, 9> kAscii{" ", ".", ":", "-", "=", "+", "*", "#", "@"};
  uint64_t most = 1;
  for (const uint64_t count : histogram.counts) most = std::max(most, count);
  std::string text;
  for (const uint64_t count : histogram.counts) {
    const double share = static_cast<double>(count) / static_cast<double>(most);
    text += (utf8 ? kBlocks : kAscii)[static_cast<size_t>(std::ceil(share * 8))];
  }
  return text;
}

std::string some_of(const std::vector<std::string>& names) {
  std::string text = printable(joined(std::span(names).first(std::min(names.size(), kMostShown))), 4000);
  if (names.size() > kMostShown) text += fmt::format(" and {} more", names.size() - kMostShown);
  return text;
}

}  // namespace

std::string statistics_text(const std::vector<TensorStatistics>& statistics, bool utf8) {
  size_t width = 6;
  for (const TensorStatistics& s : statistics) width = std::max(width, field_name(s.tensor, s.field).size());
  std::string text =
      fmt::format("{:<{}}  {:>12} {:>12} {:>12} {:>12} {:>10} {:>10} {:>6} {:>6}  {}\n", "tensor", width,
                  "min", "max", "mean", "deviation", "zeros", "pruned", "nan", "inf", "histogram");
  uint64_t pruned = 0, of_weights = 0, tensors = 0;
  for (const TensorStatistics& s : statistics) {
    const inspect::Statistics& v = s.values;
    const std::string of_tensor = s.marks_pruned ? std::to_string(v.negative_zeros) : "";
    text += fmt::format("{:<{}}  {:>12.5g} {:>12.5g} {:>12.5g} {:>12.5g} {:>10} {:>10} {:>6} {:>6}  |{}|\n",
                        field_name(s.tensor, s.field), width, v.min, v.max, v.mean, v.standard_deviation,
                        v.zeros, of_tensor, v.nans, v.infinities, sparkline(v.histogram, utf8));
    if (!s.marks_pruned || v.negative_zeros == 0) continue;
    tensors++;
    pruned += v.negative_zeros;
    of_weights += v.elements;
  }
  if (tensors > 0)
    text += fmt::format("pruned: {} of {} weights ({:.2f}%) of {} tensors\n", pruned, of_weights,
                        100 * double(pruned) / double(of_weights), tensors);
  return text;
}

std::string statistics_json(const SourceInfo& info, const std::vector<TensorStatistics>& statistics) {
  ordered_json json;
  json["path"] = info.path;
  if (info.step) json["step"] = *info.step;
  ordered_json& list = json["statistics"] = ordered_json::array();
  for (const TensorStatistics& s : statistics) {
    const inspect::Statistics& v = s.values;
    list.push_back({{"tensor", s.tensor},
                    {"field", s.field},
                    {"type", s.type},
                    {"elements", v.elements},
                    {"min", number(v.min)},
                    {"max", number(v.max)},
                    {"mean", number(v.mean)},
                    {"standard_deviation", number(v.standard_deviation)},
                    {"zeros", v.zeros},
                    {"sparsity", v.elements == 0 ? 0 : double(v.zeros) / double(v.elements)},
                    {"nans", v.nans},
                    {"infinities", v.infinities},
                    {"histogram",
                     {{"first", number(v.histogram.first)},
                      {"width", number(v.histogram.width)},
                      {"counts", v.histogram.counts}}}});
    if (s.marks_pruned) list.back()["pruned"] = v.negative_zeros;
  }
  return dumped(json);
}

namespace {

// Reads values [first, last) of a plane, in one piece where it can; otherwise each part that is under a
// checksum of its own, to find all that is damaged. The bytes that could be read.
uint64_t verify_values(TensorSource& source, size_t tensor, uint32_t plane, uint64_t first, uint64_t last,
                       std::span<std::byte> buffer, storage::FaultList& faults) {
  const storage::SourceTensor& entry = source.tensors()[tensor];
  const uint64_t unit = std::max<uint64_t>(entry.planes[plane].element_bytes, 1);
  try {
    source.read(tensor, plane, first, buffer.first((last - first) * unit));
    return (last - first) * unit;
  } catch (const Error&) {
  }
  uint64_t read = 0;
  for (uint64_t at = first; at < last;) {
    const uint64_t end = std::min(last, source.checked_with(tensor, plane, at));
    try {
      source.read(tensor, plane, at, buffer.first((end - at) * unit));
      read += (end - at) * unit;
    } catch (const Error& error) {
      faults.add(fmt::format("{}: {}", entry.name, error.what()));
    }
    at = end;
  }
  return read;
}

}  // namespace

Verification verify_source(TensorSource& source, const std::vector<size_t>& selected,
                           const std::function<void(double)>& done) {
  Verification result;
  storage::FaultList faults;
  for (const std::string& fault : source.info().faults) faults.add(fault);
  uint64_t bytes = 1, seen = 0;
  for (const size_t i : selected) bytes += source.tensors()[i].bytes;
  std::vector<std::byte> buffer(storage::kSourcePieceBytes);
  for (const size_t i : selected) {
    result.tensors++;
    const storage::SourceTensor& tensor = source.tensors()[i];
    bool is_sound = true;
    for (uint32_t plane = 0; plane < tensor.planes.size(); plane++) {
      const uint64_t unit = std::max<uint64_t>(tensor.planes[plane].element_bytes, 1);
      const uint64_t values = storage::plane_bytes(tensor, plane) / unit, step = buffer.size() / unit;
      HEADRACE_CHECK(step > 0);
      for (uint64_t first = 0; first < values; first += step) {
        const uint64_t last = std::min(values, first + step);
        const uint64_t read = verify_values(source, i, plane, first, last, buffer, faults);
        is_sound = is_sound && read == (last - first) * unit;
        result.bytes += read;
        seen += (last - first) * unit;
        done(static_cast<double>(seen) / static_cast<double>(bytes));
      }
    }
    if (!is_sound) result.damaged++;
  }
  result.faults = faults.sentences();
  return result;
}

std::string verification_text(const SourceInfo& info, const Verification& v) {
  std::string text;
  for (size_t i = 0; i < std::min(v.faults.size(), kMostShown); i++)
    text += "damaged: " + printable(v.faults[i], 2000) + "\n";
  if (v.faults.size() > kMostShown) text += fmt::format("and {} more\n", v.faults.size() - kMostShown);
  if (!v.faults.empty()) return text;
  return fmt::format("{}: {} tensors, {}: {}\n", printable(info.path), v.tensors, format_size(v.bytes),
                     info.has_checksums
                         ? "every checksum is right"
                         : "every byte can be read, and nothing overlaps or is missing (the format "
                           "has no checksums)");
}

std::string verification_json(const SourceInfo& info, const Verification& v) {
  ordered_json json;
  json["path"] = info.path;
  json["sound"] = v.faults.empty();
  json["has_checksums"] = info.has_checksums;
  json["tensors"] = v.tensors;
  json["damaged"] = v.damaged;
  json["bytes"] = v.bytes;
  json["faults"] = v.faults;
  return dumped(json);
}

std::string comparison_text(const SourceInfo& a, const SourceInfo& b, const Comparison& comparison) {
  std::string text;
  size_t width = 6, equal = 0;
  for (const Difference& d : comparison.fields) {
    if (d.differing == 0) equal++;
    if (d.differing > 0) width = std::max(width, field_name(d.tensor, d.field).size());
  }
  if (equal < comparison.fields.size()) {
    text += fmt::format("{:<{}}  {:>22} {:>12} {:>12} {:>12}\n", "tensor", width, "elements that differ",
                        "max |a-b|", "mean |a-b|", "|a-b|/|a|");
  }
  for (const Difference& d : comparison.fields) {
    if (d.differing == 0) continue;
    text += fmt::format("{:<{}}  {:>22} {:>12.5g} {:>12.5g} {:>12.5g}", field_name(d.tensor, d.field), width,
                        fmt::format("{} of {}", d.differing, d.elements), d.max_absolute, d.mean_absolute,
                        d.relative_norm);
    if (d.incomparable > 0) text += fmt::format("  {} are not finite", d.incomparable);
    if (d.a_type != d.b_type) text += fmt::format("  {} and {}", d.a_type, d.b_type);
    text += "\n";
  }
  for (const inspect::ShapeDifference& d : comparison.shapes) {
    text += fmt::format("{}: shape [{}] and [{}]\n", printable(d.tensor), fmt::join(d.a, ", "),
                        fmt::join(d.b, ", "));
  }
  if (!comparison.only_in_a.empty())
    text += fmt::format("only in {}: {}\n", printable(a.path), some_of(comparison.only_in_a));
  if (!comparison.only_in_b.empty())
    text += fmt::format("only in {}: {}\n", printable(b.path), some_of(comparison.only_in_b));
  if (!comparison.not_compared.empty())
    text += fmt::format("of a type that is not known here: {}\n", some_of(comparison.not_compared));
  if (a.step && b.step && *a.step != *b.step) text += fmt::format("step {} and step {}\n", *a.step, *b.step);
  return text + (comparison.equal()
                     ? fmt::format("equal: all {} tensors and states have the same values\n", equal)
                     : fmt::format("different: {} of {} that both hold are equal\n", equal,
                                   comparison.fields.size()));
}

std::string comparison_json(const SourceInfo& a, const SourceInfo& b, const Comparison& comparison) {
  ordered_json json;
  json["a"] = a.path;
  json["b"] = b.path;
  if (a.step) json["a_step"] = *a.step;
  if (b.step) json["b_step"] = *b.step;
  json["equal"] = comparison.equal();
  ordered_json& list = json["differences"] = ordered_json::array();
  for (const Difference& d : comparison.fields) {
    if (d.differing == 0) continue;
    list.push_back({{"tensor", d.tensor},
                    {"field", d.field},
                    {"a_type", d.a_type},
                    {"b_type", d.b_type},
                    {"elements", d.elements},
                    {"differing", d.differing},
                    {"not_finite", d.incomparable},
                    {"max_absolute", d.max_absolute},
                    {"mean_absolute", d.mean_absolute},
                    {"relative_norm", number(d.relative_norm)}});
  }
  json["compared"] = comparison.fields.size();
  ordered_json& shapes = json["shapes"] = ordered_json::array();
  for (const inspect::ShapeDifference& d : comparison.shapes)
    shapes.push_back({{"tensor", d.tensor}, {"a", d.a}, {"b", d.b}});
  json["only_in_a"] = comparison.only_in_a;
  json["only_in_b"] = comparison.only_in_b;
  json["not_compared"] = comparison.not_compared;
  return dumped(json);
}

}  // namespace headrace::tools
