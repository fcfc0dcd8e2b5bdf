#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>

#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_source.h"
#include "storage/error.h"
#include "storage/file.h"
#include "storage/run_dir.h"
#include "storage/run_source.h"
#include "storage/safetensors.h"
#include "storage/tensor_source.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSaveAdvice =
    "load it where it came from and save it with safetensors (safetensors.torch.save_file)";

// Files that people may take for what they are not, by their first bytes.
struct Foreign {
  std::string_view magic;
  const char* name;
  const char* advice;
};
constexpr std::array<Foreign, 5> kForeign{
    {{"\x93NUMPY", "an array of numpy", kSaveAdvice},
     {"\x89HDF", "an HDF5 file", kSaveAdvice},
     {"GGUF", "a GGUF file", "name the safetensors files that it was made from"},
     {"PK\x03\x04", "a zip archive (as torch.save makes)",
      "it may hold Python pickles, which run code when they are read, and is not opened; load it where it "
      "came "
      "from and save it with safetensors (safetensors.torch.save_file)"},
     {"\x1f\x8b", "a gzip archive", "unpack it first"}}};

constexpr const char* kPickleAdvice =
    "a pickle runs code when it is read, and is not opened; load it where it came from and save it with "
    "safetensors (safetensors.torch.save_file)";

[[noreturn]] void refuse(const std::string& path, const std::string& what, const std::string& advice) {
  throw Error(ErrorKind::kUsage, fmt::format("{} is {}", printable(path), what), advice);
}

// PROTO with protocol 2 to 5 begins every pickle of the last twenty years.
bool is_pickle(std::string_view beginning) {
  return beginning.size() >= 2 && beginning[0] == '\x80' && beginning[1] >= 2 && beginning[1] <= 5;
}

std::unique_ptr<TensorSource> open_file(const std::string& path) {
  const File file = File::open(path, OpenMode::kRead);
  std::string beginning(std::min<uint64_t>(file.size(), 16), '\0');
  file.pread_all(std::as_writable_bytes(std::span(beginning)), 0);
  // A header of safetensors may begin with any bytes that are its length; what follows is its '{'.
  const bool safetensors = path.ends_with(".safetensors") || beginning.substr(0, 9).ends_with('{');
  if (safetensors && beginning.size() > 8) return open_safetensors(path);
  if (is_pickle(beginning)) refuse(path, "a Python pickle (as torch.save makes)", kPickleAdvice);
  for (const Foreign& foreign : kForeign) {
    if (beginning.starts_with(foreign.magic)) refuse(path, foreign.name, foreign.advice);
  }
  refuse(path, "neither a run nor a checkpoint nor a safetensors file",
         "name the directory of a run or checkpoint, or a safetensors file");
}

bool holds(const std::string& directory, std::string_view extension) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == extension) return true;
  }
  return false;
}

// The last by name of the checkpoints in a directory such as RUN/checkpoints; empty: there is none.
std::string checkpoint_in(const std::string& directory) {
  std::string last;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (file_exists(manifest_path(entry.path().string()))) last = std::max(last, entry.path().string());
  }
  return last;
}

std::unique_ptr<TensorSource> open_directory(const std::string& path, const SourceOptions& options) {
  if (Store::exists(path)) return open_run(path, options);
  if (file_exists(manifest_path(path))) return open_checkpoint(path, options.use);
  if (holds(path, ".safetensors")) return open_safetensors(path);
  for (const char* extension : {".bin", ".pt", ".pth", ".ckpt"}) {
    if (holds(path, extension)) {
      refuse(path,
             fmt::format("a folder with {} files, which may be Python pickles, and no safetensors file",
                         extension),
             kPickleAdvice);
    }
  }
  if (file_exists(path + "/creating.json")) {
    refuse(path, "a run whose creation was cut short", "start its training again");
  }
  std::string advice = "name the directory that headrace train made, a checkpoint, or a safetensors file";
  if (const std::string checkpoint = checkpoint_in(path); !checkpoint.empty())
    advice = fmt::format("name one of the checkpoints in it: {}", printable(checkpoint));
  throw Error(ErrorKind::kUsage,
              fmt::format("{} holds no run, no checkpoint and no safetensors file", printable(path)), advice);
}

}  // namespace

std::unique_ptr<TensorSource> open_source(const std::string& path, const SourceOptions& options) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw Error(ErrorKind::kUsage, fmt::format("cannot look at {}: {}", printable(path), system_text(errno)),
                "name a run, a checkpoint, or a safetensors file or folder");
  }
  if (S_ISDIR(status.st_mode)) return open_directory(path, options);
  if (!S_ISREG(status.st_mode)) refuse(path, "neither a file nor a directory", "name a run or a file");
  return open_file(path);
}

uint64_t TensorSource::checked_with(size_t, uint32_t, uint64_t value) const {
  return value + (uint64_t{64} << 10);  // no checksums: a fault is the drive's
}

void read_plane(TensorSource& source, size_t tensor, uint32_t plane, std::span<std::byte> buffer,
                const PieceVisitor& visit) {
  const SourceTensor& entry = source.tensors()[tensor];
  const uint64_t unit = std::max<uint64_t>(entry.planes[plane].element_bytes, 1);
  const uint64_t bytes = plane_bytes(entry, plane), step = buffer.size() / unit * unit;
  HEADRACE_CHECK(step > 0);
  for (uint64_t at = 0; at < bytes; at += step) {
    const std::span<std::byte> piece = buffer.first(std::min(step, bytes - at));
    source.read(tensor, plane, at / unit, piece);
    visit(piece);
  }
}

}  // namespace headrace::storage
