#include "tools/loss_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "storage/file.h"
#include "storage/json.h"
#include "storage/run_description.h"
#include "storage/run_dir.h"
#include "storage/text.h"

namespace headrace::tools {
namespace {

constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kLongestLine = 1 << 16;
constexpr double kMostLoss = 1e300;  // of what is drawn: sums of these are finite

// Cuts a text that comes in pieces into lines.
class LineReader {
 public:
  LineReader(const std::string& path, std::vector<LossPoint>& points) : path_(path), points_(points) {}

  void add(std::string_view text) {
    while (!text.empty()) {
      if (rest_.empty()) {  // zeros stand for lines that were lost, where the file was given its length again
        text.remove_prefix(std::min(text.find_first_not_of('\0'), text.size()));
        if (text.empty()) return;
      }
      const size_t end = text.find('\n');
      rest_ += text.substr(0, end);
      if (rest_.size() > kLongestLine) wrong();
      if (end == text.npos) return;
      text.remove_prefix(end + 1);
      const auto point = parse_metrics_line(rest_);
      if (!point || (!points_.empty() && point->step <= points_.back().step)) wrong();
      points_.push_back(*point);
      rest_.clear();
    }
  }

 private:
  [[noreturn]] void wrong() const {
    throw Error(ErrorKind::kCorrupt,
                fmt::format("{}: line {} is not what training wrote: {}", path_, points_.size() + 1,
                            printable(rest_, 80)),
                "put the file back as it was");
  }

  const std::string& path_;
  std::vector<LossPoint>& points_;
  std::string rest_;
};

// A field of dots, `across` x `down` of them in a character.
class Canvas {
 public:
  Canvas(size_t columns, size_t rows, bool utf8)
      : columns_(columns), rows_(rows), utf8_(utf8), cells_(columns * rows, 0) {}
  size_t dots_across() const { return columns_ * (utf8_ ? 2 : 1); }
  size_t dots_down() const { return rows_ * (utf8_ ? 4 : 1); }
  void set(size_t x, size_t y) {
    static constexpr uint8_t kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    if (utf8_) {
      cells_[y / 4 * columns_ + x / 2] |= kBits[y % 4][x % 2];
    } else {
      cells_[y * columns_ + x] = 1;
    }
  }
  std::string row(size_t index) const {
    std::string text;
    for (size_t i = 0; i < columns_; i++) {
      const uint8_t cell = cells_[index * columns_ + i];
      if (cell == 0) {
        text += ' ';
      } else if (utf8_) {  // U+2800 and the dots
        text += '\xe2';
        text += static_cast<char>(0xa0 | cell >> 6);
        text += static_cast<char>(0x80 | (cell & 0x3f));
      } else {
        text += '*';
      }
    }
    return text;
  }

 private:
  size_t columns_, rows_;
  bool utf8_;
  std::vector<uint8_t> cells_;
};

void draw(const std::vector<double>& heights, double low, double high, Canvas& canvas) {
  const auto bottom = static_cast<double>(canvas.dots_down() - 1);
  size_t previous = 0;
  bool connected = false;
  for (size_t x = 0; x < heights.size(); x++) {
    if (std::isnan(heights[x])) {
      connected = false;
      continue;
    }
    const auto y = static_cast<size_t>(std::lround((high - heights[x]) / (high - low) * bottom));
    size_t from = y;
    if (connected && previous < y) from = previous + 1;
    if (connected && previous > y) from = previous - 1;
    for (size_t dot = std::min(from, y); dot <= std::max(from, y); dot++) canvas.set(x, dot);
    previous = y;
    connected = true;
  }
}

}  // namespace

std::optional<LossPoint> parse_metrics_line(std::string_view line) {
  const auto json = parse_json<nlohmann::json>(line);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_unsigned()) return std::nullopt;
  if (!json.contains("loss")) return std::nullopt;
  const auto& loss = json["loss"];
  if (!loss.is_number() && !loss.is_null()) return std::nullopt;
  return LossPoint{json["step"].get<uint64_t>(),
                   loss.is_null() ? std::numeric_limits<double>::quiet_NaN() : loss.get<double>()};
}

std::vector<LossPoint> read_loss_history(const std::string& run_dir) {
  const storage::RunDescription run = storage::describe_run(run_dir);
  const std::string path = storage::metrics_path(run_dir);
  std::vector<LossPoint> points;
  LineReader lines(path, points);
  if (run.metrics_bytes > 0) {
    const storage::File file = storage::File::open(path, storage::OpenMode::kRead);
    std::string piece;
    for (uint64_t at = 0; at < run.metrics_bytes; at += piece.size()) {
      piece.resize(std::min<uint64_t>(kReadBytes, run.metrics_bytes - at));
      file.pread_all(std::as_writable_bytes(std::span(piece)), at);
      lines.add(piece);
    }
  }
  lines.add(run.metrics_text);  // the file may not have it yet
  return points;
}

std::vector<double> loss_curve(const std::vector<LossPoint>& points, size_t columns) {
  std::vector<double> sums(columns, 0), counts(columns, 0);
  const auto first = static_cast<double>(points.front().step);
  const double range = std::max(static_cast<double>(points.back().step) - first, 1.0);
  for (const LossPoint& point : points) {
    if (!(std::abs(point.loss) <= kMostLoss)) continue;
    const double place = (static_cast<double>(point.step) - first) / range * static_cast<double>(columns - 1);
    const auto column = std::min(static_cast<size_t>(std::lround(place)), columns - 1);
    sums[column] += point.loss;
    counts[column] += 1;
  }
  std::vector<double> heights(columns, std::numeric_limits<double>::quiet_NaN());
  size_t last = columns;  // the last column with a value
  for (size_t i = 0; i < columns; i++) {
    if (counts[i] == 0) continue;
    heights[i] = sums[i] / counts[i];
    for (size_t between = last + 1; last < columns && between < i; between++) {
      const double share = static_cast<double>(between - last) / static_cast<double>(i - last);
      heights[between] = heights[last] + share * (heights[i] - heights[last]);
    }
    last = i;
  }
  return heights;
}

std::string plot_losses(const std::vector<LossPoint>& points, const PlotStyle& style) {
  constexpr size_t kAxis = 11;  // characters left of the curve
  const size_t columns = std::max<size_t>(style.width, kAxis + 10) - kAxis - 1;
  const size_t rows = std::max<size_t>(style.height, 5) - 2;
  Canvas canvas(columns, rows, style.utf8);
  std::vector<double> heights;
  if (!points.empty()) heights = loss_curve(points, canvas.dots_across());
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double height : heights) {
    if (std::isnan(height)) continue;
    low = std::min(low, height);
    high = std::max(high, height);
  }
  if (low > high) return "no step has been committed yet\n";
  if (low == high) {
    low -= 0.5;
    high += 0.5;
  }
  draw(heights, low, high, canvas);
  std::string text;
  const char* bar = style.utf8 ? "│" : "|";
  for (size_t row = 0; row < rows; row++) {
    const bool labelled = row == 0 || row + 1 == rows || row == (rows - 1) / 2;
    const double value = high - (high - low) * static_cast<double>(row) / static_cast<double>(rows - 1);
    std::string line = canvas.row(row);
    line.erase(line.find_last_not_of(' ') + 1);
    if (style.colour && !line.empty()) line = "\x1b[36m" + line + "\x1b[0m";
    text += fmt::format("{:>10}{}{}\n", labelled ? fmt::format("{:.5g}", value) : "", bar, line);
  }
  text += fmt::format("{:>10}{}", "", style.utf8 ? "└" : "+");
  for (size_t i = 0; i < columns; i++) text += style.utf8 ? "─" : "-";
  const std::string first = fmt::format("step {}", points.front().step),
                    last = std::to_string(points.back().step);
  const size_t space = columns > first.size() + last.size() ? columns - first.size() - last.size() : 1;
  return text + fmt::format("\n{:>11}{}{:>{}}\n", "", first, last, space + last.size());
}

std::string losses_json(const std::string& run_dir, const std::vector<LossPoint>& points) {
  nlohmann::ordered_json json;
  json["run"] = run_dir;
  json["steps"] = nlohmann::ordered_json::array();
  json["losses"] = nlohmann::ordered_json::array();
  for (const LossPoint& point : points) {
    json["steps"].push_back(point.step);
    json["losses"].push_back(std::isfinite(point.loss) ? nlohmann::ordered_json(point.loss)
                                                       : nlohmann::ordered_json());
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace headrace::tools
