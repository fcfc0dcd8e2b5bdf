// Directories and files by name, as a program sees them and as a drive may hold them after the power went: a
// name that was made, moved or removed is sure to be so only when its directory was synced since.
//
// What is not sure may have happened or not, each change for itself: POSIX promises no order. A file system
// with a journal keeps the order; then it is a first part of the changes that has happened.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace headrace::testing {

class FileTree {
 public:
  using Node = uint64_t;  // of a file or a directory; stays that through all renames
  static constexpr Node kNone = 0, kRoot = 1;

  // Paths are relative to the root: "run/shards/000".
  Node find(const std::string& path) const;  // as the program sees it; kNone: nothing
  // What is sure from the beginning.
  void add_directory(const std::string& path);

  // The call that began as event `event` made a file or directory, renamed or linked something, or removed
  // it.
  void make(uint64_t event, const std::string& path, bool is_directory);
  void rename(uint64_t event, const std::string& from, const std::string& to);  // within a directory
  void link(uint64_t event, const std::string& from, const std::string& to);
  void remove(uint64_t event, const std::string& path);
  // It has ended: from now on the program sees it.
  void done(uint64_t event);

  // What a sync of the directory, begun now, makes sure by its end.
  std::vector<uint64_t> covered_by(Node directory) const;
  void make_sure(const std::vector<uint64_t>& events);
  size_t in_doubt() const { return changes_.size(); }

  // What a drive may hold; files and directories that no name leads to are not there. By path.
  std::map<std::string, Node> lose_power(std::mt19937_64& random) const;
  bool is_directory(Node node) const { return entries_.contains(node); }

 private:
  struct Place {
    Node directory = kNone;
    std::string name;
  };
  struct Change {
    uint64_t event = 0;
    bool done = false;
    Node directory = kNone;
    std::vector<std::pair<std::string, Node>> names;  // what they lead to then
  };
  using Names = std::map<std::string, Node>;
  using Entries = std::map<Node, Names>;  // of the directories

  Place place(const std::string& path) const;
  void begin(uint64_t event, Node directory, std::vector<std::pair<std::string, Node>> names);
  static void apply(const Change& change, Entries& entries);

  Node last_ = kRoot;
  Entries entries_{{kRoot, {}}}, seen_{{kRoot, {}}};  // sure; as the program sees them
  std::vector<Change> changes_;                       // in doubt, in the order of their beginning
};

}  // namespace headrace::testing
