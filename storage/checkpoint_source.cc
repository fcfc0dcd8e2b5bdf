#include "storage/checkpoint_source.h"

#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_format.h"
#include "storage/checkpoint_reader.h"
#include "storage/error.h"
#include "storage/run_source.h"

namespace headrace::storage {
namespace {

class CheckpointSource final : public TensorSource {
 public:
  CheckpointSource(const std::string& directory, CheckpointManifest manifest, const Layout& layout) {
    info_.kind = "checkpoint";
    info_.path = directory;
    info_.step = manifest.step;
    info_.model_json = std::move(manifest.model_json);
    info_.has_checksums = true;
    tensors_ = tensors_of(layout);
    size_t next = 0;
    for (TensorId id = 0; id < layout.tensors().size(); id++) {
      const TensorSpec& spec = layout.tensor(id);
      std::vector<uint32_t> planes;
      for (uint32_t p = 0; p < spec.planes.size(); p++)
        if (holds_plane(manifest, spec.planes[p])) planes.push_back(p);
      for (const TensorPart& part : spec.parts) {
        keep(planes, tensors_[next]);
        const double all = static_cast<double>(spec.rows) * static_cast<double>(spec.columns);
        const auto share = [&](uint64_t element) {  // of the bytes that the parts take together
          return std::llround(static_cast<double>(manifest.stored_bytes[id]) * static_cast<double>(element) /
                              all);
        };
        tensors_[next].stored_bytes = static_cast<uint64_t>(
            share(part.first_element + tensors_[next].elements) - share(part.first_element));
        places_.push_back({id, part.first_element});
        next++;
      }
      planes_.push_back(std::move(planes));
    }
  }
  void read_from(std::unique_ptr<CheckpointReader> reader, const FaultList& faults) {
    info_.faults = faults.sentences();
    reader_ = std::move(reader);
    workspace_.emplace();
  }

  const SourceInfo& info() const override { return info_; }
  std::span<const SourceTensor> tensors() const override { return tensors_; }
  void read(size_t tensor, uint32_t plane, uint64_t first_value, std::span<std::byte> to) override {
    HEADRACE_CHECK(reader_ != nullptr, "the source was opened for listing");
    const PartPlace& place = places_[tensor];
    const SourcePlane& values = tensors_[tensor].planes[plane];
    const uint64_t unit = values.element_bytes;
    HEADRACE_CHECK(first_value * unit + to.size() <= value_count(tensors_[tensor], values) * unit);
    const uint64_t first = (place.first_element / values.group + first_value) * values.group;
    reader_->read(place.tensor, planes_[place.tensor][plane], first, to, *workspace_);
  }

  uint64_t checked_with(size_t tensor, uint32_t plane, uint64_t value) const override {
    const PartPlace& place = places_[tensor];
    const uint64_t group = tensors_[tensor].planes[plane].group, before = place.first_element / group;
    const uint64_t end =
        reader_->piece_end(place.tensor, planes_[place.tensor][plane], (before + value) * group);
    return (end + group - 1) / group - before;
  }

 private:
  struct PartPlace {
    TensorId tensor = 0;
    uint64_t first_element = 0;
  };

  // Leaves of a tensor the planes that the checkpoint holds.
  static void keep(const std::vector<uint32_t>& planes, SourceTensor& tensor) {
    std::vector<SourcePlane> kept;
    tensor.bytes = 0;
    for (const uint32_t plane : planes) {
      kept.push_back(std::move(tensor.planes[plane]));
      tensor.bytes += value_count(tensor, kept.back()) * kept.back().element_bytes;
    }
    tensor.planes = std::move(kept);
  }

  SourceInfo info_;
  std::vector<SourceTensor> tensors_;
  std::vector<PartPlace> places_;
  std::vector<std::vector<uint32_t>> planes_;  // of each tensor of the layout, those that are held
  std::unique_ptr<CheckpointReader> reader_;
  std::optional<CheckpointReader::Workspace> workspace_;
};

}  // namespace

std::unique_ptr<TensorSource> open_checkpoint(const std::string& directory, SourceUse use) {
  if (use != SourceUse::kList) {
    FaultList faults;
    auto reader =
        std::make_unique<CheckpointReader>(directory, use == SourceUse::kVerify ? &faults : nullptr);
    auto source = std::make_unique<CheckpointSource>(directory, reader->manifest(), reader->layout());
    source->read_from(std::move(reader), faults);
    return source;
  }
  CheckpointManifest manifest = read_manifest(directory);
  check_packs(directory, manifest);
  const Layout layout = layout_of(manifest, manifest_path(directory));
  manifest.tensors.clear();
  return std::make_unique<CheckpointSource>(directory, std::move(manifest), layout);
}

}  // namespace headrace::storage
