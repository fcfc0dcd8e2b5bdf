// The losses of a run's committed steps, from metrics.jsonl, and their plot. No lock is taken: also of a run
// that is being trained.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headrace::tools {

struct LossPoint {
  uint64_t step = 0;
  double loss = 0;  // NaN: the step's loss was no finite number
};

// A line of metrics.jsonl; nothing for any other text.
std::optional<LossPoint> parse_metrics_line(std::string_view line);

// In the order of the file. Throws Error: kCorrupt where the file is shorter than what was committed, or a
// line is none.
std::vector<LossPoint> read_loss_history(const std::string& run_dir);

// The curve at `columns` places from the first step to the last: the mean of the losses that fall there,
// between these a line. NaN where there is nothing to draw. At least one point.
std::vector<double> loss_curve(const std::vector<LossPoint>& points, size_t columns);

struct PlotStyle {
  uint32_t width = 80, height = 16;  // characters, axes included
  bool utf8 = false;                 // draw with Braille patterns: 2 x 4 dots a character
  bool colour = false;
};
// Lines with line feeds, none wider than style.width. Points must be in the order of steps. Pure.
std::string plot_losses(const std::vector<LossPoint>& points, const PlotStyle& style);

// A page of HTML with the plot as a drawing: it needs neither a network nor scripts.
std::string loss_page(const std::string& run_dir, const std::vector<LossPoint>& points);
// Replaces what is in the file. Throws Error (kFailed).
void write_page(const std::string& path, const std::string& page);

// One object, with all points.
std::string losses_json(const std::string& run_dir, const std::vector<LossPoint>& points);

}  // namespace headrace::tools
