#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <memory>

#include "storage/error.h"
#include "storage/text.h"
#include "tools/loss_history.h"

namespace headrace::tools {
namespace {

constexpr double kWidth = 960, kHeight = 420, kLeft = 70, kRight = 20, kTop = 16,
                 kBottom = 40;    // of the drawing
constexpr size_t kColumns = 870;  // one a pixel of the curve's field

constexpr const char* kHead = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
:root { color-scheme: light dark; --text: #1c2430; --soft: #5b6675; --line: #d9dee5; --page: #f5f6f8; --curve: #2f6fde; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ee; --soft: #9aa5b4; --line: #353d49; --page: #14181e; --curve: #6ea0ff; } }
body { margin: 0 auto; max-width: 1020px; padding: 24px 16px; background: var(--page); color: var(--text);
       font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 13px; }
svg .grid { stroke: var(--line); }
svg .curve { stroke: var(--curve); stroke-width: 1.6; fill: none; stroke-linejoin: round; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td { padding: 3px 18px 3px 0; }
</style>
)";

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else if (c == '&') {
      result += "&amp;";
    } else {
      result += c;
    }
  }
  return result;
}

// Round numbers within [low, high], about five.
std::vector<double> ticks(double low, double high) {
  const double rough = (high - low) / 5, power = std::pow(10, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0}) {
    if (step < rough) step = factor * power;
  }
  std::vector<double> result;
  for (double at = std::ceil(low / step); at * step <= high && result.size() < 20; at++)
    result.push_back(at * step);
  return result;
}

// The field of the curve, from values to places in the drawing.
struct Field {
  double first, last, low, high;
  double x(double step) const { return kLeft + (step - first) / (last - first) * (kWidth - kLeft - kRight); }
  double y(double loss) const { return kTop + (high - loss) / (high - low) * (kHeight - kTop - kBottom); }
};

std::string axes(const Field& field) {
  std::string svg;
  for (const double loss : ticks(field.low, field.high)) {
    svg += fmt::format(R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", kLeft,
                       kWidth - kRight, field.y(loss), field.y(loss));
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.5g}</text>\n", kLeft - 8,
                       field.y(loss) + 4, loss);
  }
  for (const double step : ticks(field.first, field.last)) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.10g}</text>\n", field.x(step),
                       kHeight - kBottom + 20, step);
  }
  return svg + fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">step</text>\n", kWidth - kRight,
                           kHeight - 4);
}

std::string drawing(const std::vector<LossPoint>& points) {
  const std::vector<double> heights = loss_curve(points, kColumns);
  Field field{static_cast<double>(points.front().step), static_cast<double>(points.back().step), INFINITY,
              -INFINITY};
  for (const double height : heights) {
    if (std::isnan(height)) continue;
    field.low = std::min(field.low, height);
    field.high = std::max(field.high, height);
  }
  if (field.low > field.high) return "<p>No step with a finite loss has been committed yet.</p>\n";
  if (field.first == field.last) field.last += 1;
  const double margin = field.high > field.low ? (field.high - field.low) * 0.03 : 0.5;
  field.low -= margin;
  field.high += margin;
  std::string path;
  bool drawing = false;
  for (size_t i = 0; i < heights.size(); i++) {
    const double step = field.first + (field.last - field.first) * static_cast<double>(i) / (kColumns - 1);
    if (!std::isnan(heights[i]))
      path += fmt::format("{}{:.1f} {:.2f}", drawing ? "L" : "M", field.x(step), field.y(heights[i]));
    drawing = !std::isnan(heights[i]);
  }
  return fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"loss by step\">\n{}<path class=\"curve\" "
      "d=\"{}\"/>\n</svg>\n",
      kWidth, kHeight, axes(field), path);
}

}  // namespace

std::string loss_page(const std::string& run_dir, const std::vector<LossPoint>& points) {
  const std::string title = "Loss of " + escaped(printable(run_dir, 1000));
  std::string page =
      std::string(kHead) + "<title>" + title + "</title>\n</head>\n<body>\n<h1>" + title + "</h1>\n";
  if (points.empty()) return page + "<p>No step has been committed yet.</p>\n</body>\n</html>\n";
  page += drawing(points) + "<table>\n";
  const auto row = [&](const char* name, const LossPoint& point) {
    page +=
        fmt::format("<tr><td>{}</td><td>{:.6f}</td><td>step {}</td></tr>\n", name, point.loss, point.step);
  };
  row("first", points.front());
  row("least", *std::min_element(points.begin(), points.end(), [](const LossPoint& a, const LossPoint& b) {
        return (std::isnan(a.loss) ? INFINITY : a.loss) < (std::isnan(b.loss) ? INFINITY : b.loss);
      }));
  row("last", points.back());
  return page +
         fmt::format(
             "</table>\n<p>{} committed steps; where several share a pixel, their mean is drawn.</p>\n",
             points.size()) +
         "</body>\n</html>\n";
}

void write_page(const std::string& path, const std::string& page) {
  errno = 0;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wbe"), &std::fclose);
  bool written = file != nullptr && std::fwrite(page.data(), 1, page.size(), file.get()) == page.size();
  if (file != nullptr) written = std::fclose(file.release()) == 0 && written;
  if (written) return;
  throw Error(ErrorKind::kFailed,
              fmt::format("cannot write {}: {}", printable(path), system_text(errno == 0 ? EIO : errno)),
              "name a file that can be written");
}

}  // namespace headrace::tools
