#include "engine/train/number_rows.h"

#include <algorithm>
#include <array>
#include <utility>

#include "storage/error.h"
#include "storage/idx_file.h"
#include "storage/npy_file.h"

namespace headrace::train {
namespace {

class IdxRows : public NumberRows {
 public:
  explicit IdxRows(storage::IdxFile file)
      : NumberRows(file.path(), file.rows(), file.columns()), file_(std::move(file)) {}
  void read_floats(uint64_t first, std::span<float> to) const override {
    read(first, to, [](std::byte byte) { return float(std::to_integer<int>(byte)) / 255.0F; });
  }
  void read_integers(uint64_t first, std::span<int64_t> to) const override {
    read(first, to, [](std::byte byte) { return std::to_integer<int64_t>(byte); });
  }
  bool has_integers() const override { return true; }

 private:
  template <class Element, class Convert>
  void read(uint64_t first, std::span<Element> to, const Convert& convert) const {
    std::array<std::byte, 16 * 1024> piece;
    for (size_t done = 0; done < to.size();) {
      const size_t count = std::min(piece.size(), to.size() - done);
      file_.read(first * columns() + done, std::span(piece).first(count));
      std::transform(piece.begin(), piece.begin() + ptrdiff_t(count), to.begin() + ptrdiff_t(done), convert);
      done += count;
    }
  }
  storage::IdxFile file_;
};

class NpyRows : public NumberRows {
 public:
  explicit NpyRows(storage::NpyFile file)
      : NumberRows(file.path(), file.rows(), file.columns()), file_(std::move(file)) {}
  void read_floats(uint64_t first, std::span<float> to) const override {
    file_.read_floats(first * columns(), to);
  }
  void read_integers(uint64_t first, std::span<int64_t> to) const override {
    file_.read_integers(first * columns(), to);
  }
  bool has_integers() const override { return file_.has_integers(); }

 private:
  storage::NpyFile file_;
};

}  // namespace

std::unique_ptr<NumberRows> open_idx_rows(const std::string& path, const std::string& scratch_folder) {
  return std::make_unique<IdxRows>(storage::IdxFile::open(path, scratch_folder));
}

std::unique_ptr<NumberRows> open_npy_rows(const std::string& path) {
  return std::make_unique<NpyRows>(storage::NpyFile::open(path));
}

}  // namespace headrace::train
