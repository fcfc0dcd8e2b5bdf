#include "engine/train/edge_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "storage/error.h"
#include "storage/file.h"
#include "storage/npy_file.h"
#include "storage/text.h"

namespace headrace::train {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{1} << 18;
constexpr size_t kLongestLine = 4096;

class EdgeTextReader {
 public:
  EdgeTextReader(const std::string& path, uint64_t nodes, const Graph::EdgeVisitor& visit)
      : path_(path), nodes_(nodes), visit_(visit) {}

  void read() {
    const storage::File file = storage::File::open(path_, storage::OpenMode::kRead);
    const uint64_t bytes = file.size();
    std::string text;  // the beginning of a line that the last piece ended in, and a piece
    for (uint64_t at = 0; at < bytes;) {
      const size_t kept = text.size();
      const uint64_t piece = std::min(kPieceBytes, bytes - at);
      text.resize(kept + piece);
      file.pread_all(std::as_writable_bytes(std::span(text)).subspan(kept), at);
      at += piece;
      std::string_view rest(text);
      for (size_t end = 0; (end = rest.find('\n')) != rest.npos; rest.remove_prefix(end + 1))
        take(rest.substr(0, end));
      if (rest.size() > kLongestLine) fail("is longer than a line of two numbers");
      text = std::string(rest);
    }
    if (!text.empty()) take(text);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Error(ErrorKind::kUsage, fmt::format("{}: line {} {}", path_, line_ + 1, why),
                "Write an edge a line, as two node numbers: 12 7");
  }

  std::string_view next_word(std::string_view& line) const {
    constexpr std::string_view kSpace = " \t\r";
    const size_t first = std::min(line.find_first_not_of(kSpace), line.size());
    line.remove_prefix(first);
    const std::string_view word = line.substr(0, std::min(line.find_first_of(kSpace), line.size()));
    line.remove_prefix(word.size());
    return word;
  }

  uint32_t node(std::string_view word) const {
    const auto number = parse_count(word);
    if (!number) fail(fmt::format("has '{}' where a node number belongs", printable(word, 40)));
    if (*number >= nodes_) fail(fmt::format("names node {}, and there are {}", *number, nodes_));
    return uint32_t(*number);
  }

  void take(std::string_view line) {
    const std::string_view from = next_word(line);
    if (!from.empty() && !from.starts_with('#')) {
      const std::string_view to = next_word(line), more = next_word(line);
      if (to.empty()) fail("has only one number");
      if (!more.empty()) fail(fmt::format("has '{}' behind its two numbers", printable(more, 40)));
      visit_(node(from), node(to));
    }
    line_++;
  }

  const std::string& path_;
  uint64_t nodes_;
  const Graph::EdgeVisitor& visit_;
  uint64_t line_ = 0;
};

void read_edge_array(const std::string& path, uint64_t nodes, const Graph::EdgeVisitor& visit) {
  const storage::NpyFile file = storage::NpyFile::open(path);
  if (file.shape().size() != 2 || file.columns() != 2) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{} has the shape {}, not [edges, 2]", path, file.shape_text()),
                "Save an array of a row an edge, of two node numbers");
  }
  std::array<int64_t, 2048> piece;
  for (uint64_t at = 0; at < file.elements(); at += piece.size()) {
    const size_t count = size_t(std::min<uint64_t>(piece.size(), file.elements() - at));
    file.read_integers(at, std::span(piece).first(count));
    for (size_t i = 0; i < count; i += 2) {
      for (const int64_t node : {piece[i], piece[i + 1]}) {
        if (node >= 0 && uint64_t(node) < nodes) continue;
        throw Error(
            ErrorKind::kUsage,
            fmt::format("{}: row {} names node {}, and there are {}", path, (at + i) / 2, node, nodes),
            "Nodes are numbered from 0, as the rows of features.npy");
      }
      visit(uint32_t(piece[i]), uint32_t(piece[i + 1]));
    }
  }
}

}  // namespace

std::string edge_file(const std::string& folder) {
  std::error_code ignored;
  const std::string text = folder + "/edges.txt", array = folder + "/edges.npy";
  const bool has_text = std::filesystem::exists(text, ignored);
  const bool has_array = std::filesystem::exists(array, ignored);
  if (has_text != has_array) return has_text ? text : array;
  throw Error(ErrorKind::kUsage,
              fmt::format("{} has {} edges.txt {} edges.npy", folder, has_text ? "both" : "neither",
                          has_text ? "and" : "nor"),
              "Have one of them: a line or a row an edge, of two node numbers");
}

void read_edges(const std::string& path, uint64_t nodes, const Graph::EdgeVisitor& visit) {
  if (path.ends_with(".npy")) return read_edge_array(path, nodes, visit);
  EdgeTextReader(path, nodes, visit).read();
}

}  // namespace headrace::train
