#include "tests/recovery/file_tree.h"

#include <algorithm>
#include <functional>

#include "storage/error.h"

namespace headrace::testing {

FileTree::Place FileTree::place(const std::string& path) const {
  Node directory = kRoot;
  size_t first = 0;
  for (size_t slash = 0; (slash = path.find('/', first)) != path.npos; first = slash + 1) {
    const Names& names = seen_.at(directory);
    const auto found = names.find(path.substr(first, slash - first));
    if (found == names.end() || !seen_.contains(found->second)) return {};
    directory = found->second;
  }
  return {directory, path.substr(first)};
}

FileTree::Node FileTree::find(const std::string& path) const {
  const Place at = place(path);
  if (at.directory == kNone) return kNone;
  const Names& names = seen_.at(at.directory);
  const auto found = names.find(at.name);
  return found == names.end() ? kNone : found->second;
}

void FileTree::add_directory(const std::string& path) {
  const Place at = place(path);
  const Node node = ++last_;
  for (Entries* entries : {&entries_, &seen_}) {
    entries->at(at.directory)[at.name] = node;
    entries->try_emplace(node);
  }
}

void FileTree::begin(uint64_t event, Node directory, std::vector<std::pair<std::string, Node>> names) {
  HEADRACE_CHECK(directory != kNone, "a change in a directory that is not there");
  changes_.push_back({event, false, directory, std::move(names)});
}

void FileTree::make(uint64_t event, const std::string& path, bool is_directory) {
  const Place at = place(path);
  const Node node = ++last_;
  if (is_directory) {  // empty, as far as a name leads to it
    entries_.try_emplace(node);
    seen_.try_emplace(node);
  }
  begin(event, at.directory, {{at.name, node}});
}

void FileTree::rename(uint64_t event, const std::string& from, const std::string& to) {
  const Place old_place = place(from), new_place = place(to);
  const Node node = find(from);
  HEADRACE_CHECK(node != kNone && old_place.directory == new_place.directory, from + " to " + to);
  begin(event, old_place.directory, {{old_place.name, kNone}, {new_place.name, node}});
}

void FileTree::link(uint64_t event, const std::string& from, const std::string& to) {
  const Place at = place(to);
  const Node node = find(from);
  HEADRACE_CHECK(node != kNone, from);
  begin(event, at.directory, {{at.name, node}});
}

void FileTree::remove(uint64_t event, const std::string& path) {
  const Place at = place(path);
  begin(event, at.directory, {{at.name, kNone}});
}

void FileTree::apply(const Change& change, Entries& entries) {
  Names& names = entries.at(change.directory);
  for (const auto& [name, node] : change.names) {
    if (node == kNone) {
      names.erase(name);
    } else {
      names[name] = node;
    }
  }
}

void FileTree::done(uint64_t event) {
  for (Change& change : changes_) {
    if (change.event != event) continue;
    change.done = true;
    apply(change, seen_);
  }
}

std::vector<uint64_t> FileTree::covered_by(Node directory) const {
  std::vector<uint64_t> covered;
  for (const Change& change : changes_)
    if (change.done && change.directory == directory) covered.push_back(change.event);
  return covered;
}

void FileTree::make_sure(const std::vector<uint64_t>& events) {
  const auto is_sure = [&](const Change& change) {
    return std::find(events.begin(), events.end(), change.event) != events.end();
  };
  for (const Change& change : changes_)
    if (is_sure(change)) apply(change, entries_);
  std::erase_if(changes_, is_sure);
}

std::map<std::string, FileTree::Node> FileTree::lose_power(std::mt19937_64& random) const {
  Entries entries = entries_;
  const bool ordered = random() % 2 == 0;
  const size_t first = random() % (changes_.size() + 1);
  const uint64_t likely = random() % 5;  // from none to all of them
  for (size_t i = 0; i < changes_.size(); i++)
    if (ordered ? i < first : random() % 4 < likely) apply(changes_[i], entries);
  std::map<std::string, Node> found;
  const std::function<void(Node, const std::string&)> walk = [&](Node directory, const std::string& prefix) {
    for (const auto& [name, node] : entries.at(directory)) {
      found[prefix + name] = node;
      if (entries.contains(node)) walk(node, prefix + name + "/");
    }
  };
  walk(kRoot, "");
  return found;
}

}  // namespace headrace::testing
