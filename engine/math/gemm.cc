#include "engine/math/gemm.h"

#include <algorithm>

#include "engine/math/gemm_kernels.h"
#include "engine/math/parallel.h"
#include "storage/error.h"

// The operand that belongs to a block (w, or the block's columns of dy for dw) is packed into the workspace
// by all threads, a piece at a time that fits a core's second-level cache; then tasks stream the activations
// past it, each copying what it needs of them to its own stack. A strip of the packed operand, as wide as a
// register tile, is contiguous over all panels of the piece. A task takes the panels of a piece in order,
// some at a time, and pieces follow each other, so every output receives its panels in index order.
namespace headrace::math {
namespace {

using gemm::kernels;
using gemm::Kernels;
using gemm::kMaxPanels;
using gemm::kMaxTileColumns;
using gemm::kMaxTileRows;
using gemm::PanelDepths;
using gemm::Parts;
using gemm::Write;

constexpr int64_t kPieceFloats = 256 * 1024;         // of a piece, the padding of its last strip not counted
constexpr int64_t kPieceColumns = 256;               // a piece takes so many before it takes more panels
constexpr int64_t kLeastPieceColumns = 64;           // that its depth is reckoned with
constexpr int64_t kTaskProducts = int64_t{1} << 22;  // multiply-adds of a task: 0.1 ms with AVX2
constexpr int64_t kPackFloats = 16 * 1024;           // that one task packs

template <class Body>
void parallel_for(int64_t count, const Body& body) {
  parallel_tasks(count, body);
}

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

struct Range {
  int64_t first, last;
  int64_t size() const { return last - first; }
};

// The panels of an inner dimension of `total`, which start anew at each multiple of `sequence`; the last
// sequence may be shorter.
struct Panels {
  int64_t total, sequence;

  int64_t per_sequence() const { return (sequence + kPanel - 1) / kPanel; }
  int64_t count() const {
    return total / sequence * per_sequence() + (total % sequence + kPanel - 1) / kPanel;
  }
  // The panel's place in the inner dimension; first(count()) is the total.
  int64_t first(int64_t panel) const {
    return std::min(total, panel / per_sequence() * sequence + panel % per_sequence() * kPanel);
  }
  int64_t depth(int64_t panel) const { return first(panel + 1) - first(panel); }
  PanelDepths depths(Range panels) const {
    PanelDepths depths{.count = panels.size()};
    for (int64_t i = 0; i < panels.size(); i++) depths.depth[i] = depth(panels.first + i);
    return depths;
  }
};

// How a packed operand of [total][columns] is cut into pieces, of whole tiles `tile` columns wide.
class Pieces {
 public:
  Pieces(int64_t total, int64_t columns, int64_t tile) : columns_(columns), tile_(tile) {
    const int64_t most = std::max(kPieceColumns, kPieceFloats / total);
    parts_ = Parts::of_at_most((columns + tile - 1) / tile, (most + tile - 1) / tile);
    const int64_t width = std::max(kLeastPieceColumns, std::min(most, round_up(columns, tile)));
    depth_ = std::min(total, std::max(kPanel, kPieceFloats / width));
  }

  size_t bytes() const {
    // The last strip has padding: up to a tile's columns, or rows in the case of the broadcast operand.
    const int64_t most_columns = (parts_.total + parts_.count - 1) / parts_.count * tile_ + 16;
    static_assert(kMaxTileRows <= 16);
    return sizeof(float) * static_cast<size_t>(depth_ * most_columns);
  }

  // Calls body(columns, panels) for each piece, panels of the same columns in order.
  template <class Body>
  void for_each(const Panels& grid, const Body& body) const {
    const int64_t panels = std::max<int64_t>(1, depth_ / std::min(kPanel, grid.sequence));
    for (int64_t part = 0; part < parts_.count; part++) {
      const Range columns{parts_.first(part) * tile_, std::min(columns_, parts_.first(part + 1) * tile_)};
      for (int64_t panel = 0; panel < grid.count(); panel += panels) {
        body(columns, Range{panel, std::min(grid.count(), panel + panels)});
      }
    }
  }

 private:
  int64_t columns_, tile_, depth_ = 0;
  Parts parts_ = {};
};

Write write_of(int64_t panel, Accumulate accumulate) {
  return panel == 0 && accumulate == Accumulate::kNo ? Write::kStore : Write::kAdd;
}

float* floats(std::span<std::byte> workspace, size_t least_bytes) {
  HEADRACE_CHECK(workspace.size() >= least_bytes);
  HEADRACE_CHECK(reinterpret_cast<uintptr_t>(workspace.data()) % 64 == 0);
  return reinterpret_cast<float*>(workspace.data());
}

// In parallel, calls body(first, last) for the rows, `columns` floats each, of the packed operand.
template <class Body>
void for_each_rows(int64_t rows, int64_t columns, const Body& body) {
  const Parts tasks = Parts::of_at_most(rows, std::max<int64_t>(1, kPackFloats / columns));
  parallel_for(tasks.count, [&](int64_t task) { body(tasks.first(task), tasks.first(task + 1)); });
}

// Calls body(group) for as many panels at a time as a tile takes.
template <class Body>
void for_each_group(Range panels, const Body& body) {
  for (int64_t first = panels.first; first < panels.last; first += kMaxPanels) {
    body(Range{first, std::min(panels.last, first + kMaxPanels)});
  }
}

// c[:, columns] (+)= a[:, panels] b[panels, columns], where b is packed in strips from the first of the
// panels on; `bias` (or null) is added after the grid's last panel.
void multiply_piece(const Kernels& kernel, ConstMatrix a, const float* packed, const Panels& grid,
                    Range columns, Range panels, const float* bias, Matrix c, Accumulate accumulate) {
  const int64_t start = grid.first(panels.first), depth = grid.first(panels.last) - start;
  const int64_t strips = (a.rows - 1) / kernel.tile_rows + 1;
  const int64_t strip_products = columns.size() * depth * kernel.tile_rows;
  const Parts tasks{a.rows, (strips - 1) / std::max<int64_t>(1, kTaskProducts / strip_products) + 1};
  parallel_for(tasks.count, [&](int64_t task) {
    const int64_t first = tasks.first(task), rows = tasks.size(task);
    for (int64_t panel = panels.first; panel < panels.last; panel++) {
      const int64_t k = grid.first(panel);
      kernel.multiply_rows({
          .a = a.row_range(first, rows).column_range(k, grid.depth(panel)),
          .next_a = panel + 1 < panels.last
                        ? a.row_range(first, rows).column_range(grid.first(panel + 1), 0)
                        : a.row_range(first + rows, a.rows - first - rows).column_range(start, 0),
          .strips = packed + (k - start) * kernel.tile_columns,
          .strip_stride = depth * kernel.tile_columns,
          .bias = bias != nullptr && panel + 1 == grid.count() ? bias + columns.first : nullptr,
          .c = c.row_range(first, rows).column_range(columns.first, columns.size()),
          .write = write_of(panel, accumulate),
      });
    }
  });
}

}  // namespace

void gemm_nt(ConstMatrix x, WeightView w, const float* bias, Matrix y, std::span<std::byte> workspace) {
  HEADRACE_CHECK(x.columns == w.columns && y.rows == x.rows && y.columns == w.rows);
  if (y.rows == 0 || y.columns == 0) return;
  float* packed = floats(workspace, gemm_nt_workspace_bytes(x.rows, w.rows, w.columns));
  const Kernels& kernel = kernels();
  const Panels grid{w.columns, w.columns};
  Pieces(w.columns, w.rows, kMaxTileColumns).for_each(grid, [&](Range columns, Range panels) {
    const int64_t start = grid.first(panels.first), piece_depth = grid.first(panels.last) - start;
    const int64_t strips = (columns.size() - 1) / kernel.tile_columns + 1;
    parallel_for(strips * panels.size(), [&](int64_t task) {
      const int64_t strip = task / panels.size(), panel = panels.first + task % panels.size();
      const int64_t row = columns.first + strip * kernel.tile_columns;
      const int64_t k = grid.first(panel), depth = grid.depth(panel);
      kernel.pack_transposed(w, row, std::min(kernel.tile_columns, columns.last - row), k, depth,
                             packed + (strip * piece_depth + k - start) * kernel.tile_columns);
    });
    multiply_piece(kernel, x, packed, grid, columns, panels, bias, y, Accumulate::kNo);
  });
}

size_t gemm_nt_workspace_bytes(int64_t, int64_t out, int64_t in) {
  return Pieces(in, out, kMaxTileColumns).bytes();
}

void gemm_nn(ConstMatrix dy, WeightView w, Matrix dx, Accumulate accumulate, std::span<std::byte> workspace) {
  HEADRACE_CHECK(dy.columns == w.rows && dx.rows == dy.rows && dx.columns == w.columns);
  if (dx.rows == 0 || dx.columns == 0) return;
  float* packed = floats(workspace, gemm_nn_workspace_bytes(dy.rows, w.rows, w.columns));
  const Kernels& kernel = kernels();
  const Panels grid{w.rows, w.rows};
  Pieces(w.rows, w.columns, kMaxTileColumns).for_each(grid, [&](Range columns, Range panels) {
    const int64_t start = grid.first(panels.first), depth = grid.first(panels.last) - start;
    for_each_rows(depth, columns.size(), [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        kernel.pack_row(w, start + row, columns.first, columns.size(), packed + row * kernel.tile_columns,
                        depth * kernel.tile_columns);
      }
    });
    multiply_piece(kernel, dy, packed, grid, columns, panels, nullptr, dx, accumulate);
  });
}

size_t gemm_nn_workspace_bytes(int64_t, int64_t out, int64_t in) {
  return Pieces(out, in, kMaxTileColumns).bytes();
}

namespace {

// c (+)= a b for b packed whole. Tasks take groups of strips: the rows are few.
void multiply_packed(ConstMatrix a, const float* packed, const float* bias, Matrix c, Accumulate accumulate) {
  const Kernels& kernel = kernels();
  const Panels grid{a.columns, a.columns};
  const int64_t strips = (c.columns + kernel.tile_columns - 1) / kernel.tile_columns;
  const int64_t strip_products = std::max<int64_t>(1, a.rows * a.columns * kernel.tile_columns);
  const Parts groups = Parts::of_at_most(strips, std::max<int64_t>(1, kTaskProducts / 4 / strip_products));
  parallel_for(groups.count, [&](int64_t group) {
    const int64_t first = groups.first(group) * kernel.tile_columns;
    const int64_t last = std::min(c.columns, groups.first(group + 1) * kernel.tile_columns);
    multiply_piece(kernel, a, packed + first * a.columns, grid, {first, last}, {0, grid.count()}, bias, c,
                   accumulate);
  });
}

}  // namespace

int64_t packed_nt_floats(int64_t out, int64_t in) { return round_up(out, kMaxTileColumns) * in; }

void pack_nt(WeightView w, int64_t first_row, float* packed) {
  const Kernels& kernel = kernels();
  HEADRACE_CHECK(first_row % kernel.tile_columns == 0 && reinterpret_cast<uintptr_t>(packed) % 64 == 0);
  parallel_for((w.rows + kernel.tile_columns - 1) / kernel.tile_columns, [&](int64_t strip) {
    const int64_t row = strip * kernel.tile_columns;
    float* to = packed + (first_row + row) * w.columns;
    for (int64_t k = 0; k < w.columns; k += kPanel)
      kernel.pack_transposed(w, row, std::min(kernel.tile_columns, w.rows - row), k,
                             std::min(kPanel, w.columns - k), to + k * kernel.tile_columns);
  });
}

void gemm_nt_packed(ConstMatrix x, const float* packed, const float* bias, Matrix y) {
  HEADRACE_CHECK(y.rows == x.rows);
  multiply_packed(x, packed, bias, y, Accumulate::kNo);
}

int64_t packed_nn_floats(int64_t out, int64_t in) { return round_up(in, kMaxTileColumns) * out; }

void pack_nn(WeightView w, int64_t first_row, int64_t out, float* packed) {
  const Kernels& kernel = kernels();
  HEADRACE_CHECK(reinterpret_cast<uintptr_t>(packed) % 64 == 0);
  for_each_rows(w.rows, w.columns, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
      kernel.pack_row(w, row, 0, w.columns, packed + (first_row + row) * kernel.tile_columns,
                      out * kernel.tile_columns);
  });
}

void gemm_nn_packed(ConstMatrix dy, const float* packed, Matrix dx, Accumulate accumulate) {
  HEADRACE_CHECK(dx.rows == dy.rows);
  multiply_packed(dy, packed, nullptr, dx, accumulate);
}

void gemm_tn(ConstMatrix dy, ConstMatrix x, int64_t sequence, Matrix dw, Accumulate accumulate,
             std::span<std::byte> workspace) {
  HEADRACE_CHECK(dy.rows == x.rows && dw.rows == dy.columns && dw.columns == x.columns);
  HEADRACE_CHECK(sequence > 0);
  if (dw.rows == 0 || dw.columns == 0) return;
  float* packed = floats(workspace, gemm_tn_workspace_bytes(x.rows, dy.columns, x.columns));
  const Kernels& kernel = kernels();
  const Panels grid{x.rows, sequence};
  Pieces(x.rows, dy.columns, kMaxTileRows).for_each(grid, [&](Range rows, Range panels) {
    const Parts strips = Parts::of_at_most(rows.size(), kernel.tile_rows);
    const int64_t start = grid.first(panels.first), depth = grid.first(panels.last) - start;
    for_each_rows(depth, rows.size(), [&](int64_t first, int64_t last) {
      kernel.pack_broadcast(dy.row_range(start + first, last - first).column_range(rows.first, rows.size()),
                            strips, packed + first * kernel.tile_rows, depth * kernel.tile_rows);
    });
    parallel_for((x.columns - 1) / kernel.tile_columns + 1, [&](int64_t task) {
      const int64_t column = task * kernel.tile_columns;
      const int64_t columns = std::min(kernel.tile_columns, x.columns - column);
      for_each_group(panels, [&](Range group) {
        const int64_t k = grid.first(group.first);
        const PanelDepths depths = grid.depths(group);
        // The next panels of these columns, or the first ones of the next columns.
        const Range next = group.last < panels.last ? Range{grid.first(group.last), grid.first(panels.last)}
                                                    : Range{start, start + depth};
        const int64_t next_column = column + (group.last < panels.last ? 0 : columns);
        kernel.multiply_columns({
            .panels = depths,
            .strips = packed + (k - start) * kernel.tile_rows,
            .strip_stride = depth * kernel.tile_rows,
            .rows = strips,
            .b = x.row_range(k, depths.total()).column_range(column, columns),
            .next_b = x.row_range(next.first, next_column < x.columns ? next.size() : 0)
                          .column_range(next_column, 0),
            .c = dw.row_range(rows.first, rows.size()).column_range(column, columns),
            .write = write_of(group.first, accumulate),
        });
      });
    });
  });
}

size_t gemm_tn_workspace_bytes(int64_t tokens, int64_t out, int64_t) {
  return Pieces(tokens, out, kMaxTileRows).bytes();
}

void column_sums(ConstMatrix dy, int64_t sequence, float* db, Accumulate accumulate) {
  HEADRACE_CHECK(sequence > 0);
  const Panels grid{dy.rows, sequence};
  constexpr int64_t kColumns = 64;  // of a task: a few cache lines of each row
  parallel_for((dy.columns + kColumns - 1) / kColumns, [&](int64_t task) {
    const int64_t first = task * kColumns, columns = std::min(kColumns, dy.columns - first);
    for (int64_t panel = 0; panel < grid.count(); panel++) {
      float sums[kColumns] = {};
      for (int64_t k = grid.first(panel); k < grid.first(panel + 1); k++) {
        const float* row = dy.row(k) + first;
        for (int64_t j = 0; j < columns; j++) sums[j] += row[j];
      }
      const bool add = write_of(panel, accumulate) == Write::kAdd;
      for (int64_t j = 0; j < columns; j++) db[first + j] = add ? db[first + j] + sums[j] : sums[j];
    }
  });
}

}  // namespace headrace::math
