#include "storage/lmdb_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "storage/error.h"
#include "storage/hasher.h"
#include "storage/lmdb_format.h"

namespace headrace::storage {
namespace {

using namespace lmdb;

constexpr const char* kAdvice = "Restore the run from a checkpoint or a copy";

template <typename T>
T load(std::span<const std::byte> bytes, size_t offset) {
  HEADRACE_CHECK(offset + sizeof(T) <= bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

class Checker {
 public:
  Checker(const File& file, bool exact_length, const LmdbVisitor& visitor)
      : file_(file), exact_length_(exact_length), visitor_(visitor) {}

  LmdbFile run();

 private:
  struct Walk {  // of one tree
    const Tree* tree;
    bool is_free;
    uint64_t branch_pages = 0, leaf_pages = 0, overflow_pages = 0, entries = 0;
    std::string previous;  // the last leaf's key
    std::string floor;     // the separator before what comes next
    bool has_previous = false;
  };
  struct Node {
    NodeHeader header;
    std::span<const std::byte> key;
    size_t value_offset;  // in the page
  };

  [[noreturn]] void corrupt(uint64_t page, const std::string& why) const;
  [[noreturn]] void refuse_version(uint32_t version) const;
  Meta read_meta(uint64_t offset);
  void choose_meta();
  void check_length();
  void reach(uint64_t first, uint64_t count, uint64_t from);
  void walk(Walk& walk);
  void visit_page(Walk& walk, uint64_t number, uint32_t depth, uint64_t parent);
  std::vector<Node> nodes_of(std::span<const std::byte> page, uint64_t number) const;
  void visit_branch(Walk& walk, std::span<const std::byte> page, uint64_t number, uint32_t depth);
  void visit_leaf(Walk& walk, std::span<const std::byte> page, uint64_t number);
  void visit_value(Walk& walk, std::span<const std::byte> page, uint64_t number, const Node& node);
  void check_key(Walk& walk, uint64_t page, std::span<const std::byte> key, bool separator) const;
  void take_free_pages(uint64_t number, std::span<const std::byte> key, std::span<const std::byte> list);

  const File& file_;
  bool exact_length_;
  const LmdbVisitor& visitor_;
  Hasher hasher_;
  uint64_t file_bytes_ = 0;
  uint32_t page_bytes_ = 0;
  Meta meta_{};
  std::vector<bool> reached_;
  uint64_t reached_count_ = 0;
  std::array<std::vector<std::byte>, kMaxDepth> pages_;  // one a level
};

void Checker::corrupt(uint64_t page, const std::string& why) const {
  throw Error(ErrorKind::kCorrupt,
              fmt::format("{} is damaged at offset {}: {}", file_.path(), page * uint64_t{page_bytes_}, why),
              kAdvice);
}

void Checker::refuse_version(uint32_t version) const {
  throw Error(ErrorKind::kCorrupt,
              fmt::format("{} has LMDB's data version {}, and only version {} (LMDB 0.9) can be used",
                          file_.path(), version, kDataVersion),
              "A checkpoint taken by the program that wrote it is the way across");
}

Meta Checker::read_meta(uint64_t offset) {
  std::array<std::byte, sizeof(PageHeader) + sizeof(Meta)> bytes;
  if (file_.size() < offset + bytes.size()) {
    throw Error(ErrorKind::kCorrupt,
                fmt::format("{} has {} bytes, too few for LMDB's meta pages", file_.path(), file_.size()),
                kAdvice);
  }
  file_.pread_all(bytes, offset);
  hasher_.add(bytes);
  const auto header = load<PageHeader>(bytes, 0);
  const auto meta = load<Meta>(bytes, sizeof(PageHeader));
  const uint64_t page = offset == 0 ? 0 : 1;
  // LMDB 1.0's page header is eight bytes longer.
  if (meta.magic != kMagic && load<uint32_t>(bytes, sizeof(PageHeader) + 8) == kMagic) {
    refuse_version(load<uint32_t>(bytes, sizeof(PageHeader) + 12));
  }
  if (meta.magic != kMagic || header.flags != kMeta || header.number != page) {
    corrupt(page, "no meta page of LMDB");
  }
  if (meta.version != kDataVersion) refuse_version(meta.version);
  const uint32_t page_bytes = meta.free.pad;
  if (!std::has_single_bit(page_bytes) || page_bytes < kMinPageBytes || page_bytes > kMaxPageBytes) {
    corrupt(page, fmt::format("a page size of {} bytes", page_bytes));
  }
  if ((meta.free.flags & ~kNoSubdirectory) != kIntegerKey || meta.main.flags != 0 || meta.main.pad != 0) {
    corrupt(page, fmt::format("database flags {:#x} and {:#x}", meta.free.flags, meta.main.flags));
  }
  if (meta.address != 0) corrupt(page, "a fixed address");
  return meta;
}

// Page i holds the newest transaction of i's parity; a new environment has two of number 0.
void Checker::choose_meta() {
  const Meta first = read_meta(0);
  page_bytes_ = first.free.pad;
  const Meta second = read_meta(page_bytes_);
  if (second.free.pad != page_bytes_) corrupt(1, "a page size unlike the first meta page's");
  const uint64_t a = first.transaction, b = second.transaction;
  const bool fresh = a == 0 && b == 0;
  const bool apart = (a > b ? a - b : b - a) == 1;
  if (!fresh && (!apart || a % 2 != 0 || b % 2 != 1)) {
    corrupt(0, fmt::format("meta pages of transactions {} and {}", a, b));
  }
  meta_ = b > a ? second : first;
}

void Checker::check_length() {
  file_bytes_ = file_.size();
  const uint64_t pages = file_bytes_ / page_bytes_;
  const uint64_t last = meta_.last_page;
  // A page that the file does not hold must stand in a list of free pages, eight bytes in the file.
  const uint64_t most = exact_length_ ? pages : pages + file_bytes_ / 8;
  if (last < 1 || last >= most) {
    corrupt(0, fmt::format("its last page is {}, and it has {} bytes", last, file_bytes_));
  }
  if (exact_length_ && file_bytes_ != (last + 1) * page_bytes_) {
    corrupt(0, fmt::format("it has {} bytes where {} belong", file_bytes_, (last + 1) * page_bytes_));
  }
}

void Checker::reach(uint64_t first, uint64_t count, uint64_t from) {
  if (first < 2 || first > meta_.last_page || count == 0 || count > meta_.last_page - first + 1) {
    corrupt(from,
            fmt::format("it refers to pages {} to {} of {}", first, first + count - 1, meta_.last_page));
  }
  for (uint64_t page = first; page < first + count; page++) {
    if (reached_[page]) corrupt(from, fmt::format("page {} has two owners", page));
    reached_[page] = true;
  }
  reached_count_ += count;
}

void Checker::walk(Walk& walk) {
  const Tree& tree = *walk.tree;
  if (tree.root == kNoPage) {
    if (tree.depth != 0) corrupt(0, "an empty tree with a depth");
  } else {
    if (tree.depth < 1 || tree.depth > kMaxDepth) corrupt(0, fmt::format("a tree of depth {}", tree.depth));
    visit_page(walk, tree.root, 0, 0);
  }
  if (walk.branch_pages != tree.branch_pages || walk.leaf_pages != tree.leaf_pages ||
      walk.overflow_pages != tree.overflow_pages || walk.entries != tree.entries) {
    corrupt(0,
            fmt::format("a tree of {} branches, {} leaves, {} overflow pages and {} entries is said to have "
                        "{}, {}, {} and {}",
                        walk.branch_pages, walk.leaf_pages, walk.overflow_pages, walk.entries,
                        tree.branch_pages, tree.leaf_pages, tree.overflow_pages, tree.entries));
  }
}

void Checker::visit_page(Walk& walk, uint64_t number, uint32_t depth, uint64_t parent) {
  reach(number, 1, parent);
  std::vector<std::byte>& page = pages_[depth];
  page.resize(page_bytes_);
  file_.pread_all(page, number * page_bytes_);
  hasher_.add(page);
  const auto header = load<PageHeader>(page, 0);
  const bool leaf = depth + 1u == walk.tree->depth;
  if (header.number != number || header.flags != (leaf ? kLeaf : kBranch)) {
    corrupt(number, fmt::format("page {} says that it is page {} with flags {:#x}", number, header.number,
                                header.flags));
  }
  if (leaf) {
    walk.leaf_pages++;
    visit_leaf(walk, page, number);
  } else {
    walk.branch_pages++;
    visit_branch(walk, page, number, depth);
  }
}

std::vector<Checker::Node> Checker::nodes_of(std::span<const std::byte> page, uint64_t number) const {
  const auto header = load<PageHeader>(page, 0);
  if (header.lower < sizeof(PageHeader) || header.lower % 2 != 0 || header.lower > header.upper ||
      header.upper > page_bytes_) {
    corrupt(number, fmt::format("free space from {} to {}", header.lower, header.upper));
  }
  const bool leaf = header.flags == kLeaf;
  std::vector<Node> nodes;
  std::vector<std::pair<size_t, size_t>> taken;
  for (size_t at = sizeof(PageHeader); at < header.lower; at += 2) {
    const size_t offset = load<uint16_t>(page, at);
    if (offset < header.upper || offset % 2 != 0 || offset + sizeof(NodeHeader) > page_bytes_) {
      corrupt(number, fmt::format("a node at {}", offset));
    }
    Node node;
    node.header = load<NodeHeader>(page, offset);
    node.value_offset = offset + sizeof(NodeHeader) + node.header.key_bytes;
    size_t value_bytes = 0;
    if (leaf) {
      if ((node.header.flags & ~kBigData) != 0)
        corrupt(number, fmt::format("node flags {:#x}", node.header.flags));
      value_bytes = (node.header.flags & kBigData) != 0 ? sizeof(uint64_t) : node.header.value_bytes();
    }
    const size_t end = node.value_offset + value_bytes;
    if (node.header.key_bytes > kMaxKey || end > page_bytes_) {
      corrupt(number, fmt::format("a node at {} that ends at {}", offset, end));
    }
    node.key = page.subspan(offset + sizeof(NodeHeader), node.header.key_bytes);
    nodes.push_back(node);
    taken.emplace_back(offset, end);
  }
  std::sort(taken.begin(), taken.end());
  for (size_t i = 1; i < taken.size(); i++) {
    if (taken[i].first < taken[i - 1].second) corrupt(number, "nodes that overlap");
  }
  return nodes;
}

// Keys rise in the order of leaves; a branch's key divides what lies before it from what follows.
void Checker::check_key(Walk& walk, uint64_t page, std::span<const std::byte> key, bool separator) const {
  if (key.empty() || (walk.is_free && key.size() != sizeof(uint64_t))) {
    corrupt(page, fmt::format("a key of {} bytes", key.size()));
  }
  std::string text(reinterpret_cast<const char*>(key.data()), key.size());
  if (walk.is_free) std::reverse(text.begin(), text.end());  // numbers: compare from the highest byte
  if (walk.has_previous && text <= walk.previous) corrupt(page, "keys out of order");
  if (text < walk.floor) corrupt(page, "keys out of order");
  if (separator) {
    walk.floor = std::move(text);
  } else {
    walk.previous = std::move(text);
    walk.has_previous = true;
  }
}

void Checker::visit_branch(Walk& walk, std::span<const std::byte> page, uint64_t number, uint32_t depth) {
  const std::vector<Node> nodes = nodes_of(page, number);
  if (nodes.size() < (walk.is_free ? 1u : 2u))
    corrupt(number, fmt::format("a branch of {} nodes", nodes.size()));
  for (size_t i = 0; i < nodes.size(); i++) {
    if (i > 0) check_key(walk, number, nodes[i].key, true);
    visit_page(walk, nodes[i].header.child(), depth + 1, number);
  }
}

void Checker::visit_leaf(Walk& walk, std::span<const std::byte> page, uint64_t number) {
  const std::vector<Node> nodes = nodes_of(page, number);
  if (nodes.empty()) corrupt(number, "a leaf without nodes");
  for (const Node& node : nodes) {
    check_key(walk, number, node.key, false);
    walk.entries++;
    visit_value(walk, page, number, node);
  }
}

void Checker::visit_value(Walk& walk, std::span<const std::byte> page, uint64_t number, const Node& node) {
  const uint64_t bytes = node.header.value_bytes();
  LmdbValue value{{reinterpret_cast<const char*>(node.key.data()), node.key.size()}, bytes, 0, {}};
  std::vector<std::byte> run;
  if ((node.header.flags & kBigData) == 0) {
    value.prefix = page.subspan(node.value_offset, bytes);
  } else {
    value.page = load<uint64_t>(page, node.value_offset);
    reach(value.page, 1, number);
    // Free pages' lists are read whole, other runs only as far as their first page.
    run.resize(page_bytes_);
    file_.pread_all(run, value.page * page_bytes_);
    const auto header = load<PageHeader>(run, 0);
    const uint64_t needed = (sizeof(PageHeader) - 1 + bytes) / page_bytes_ + 1;
    if (header.number != value.page || header.flags != kOverflow || header.run_pages() < needed) {
      corrupt(value.page, fmt::format("page {} is no run of {} pages", value.page, needed));
    }
    if (header.run_pages() > 1) reach(value.page + 1, header.run_pages() - 1, value.page);
    walk.overflow_pages += header.run_pages();
    if (walk.is_free) {
      run.resize(sizeof(PageHeader) + bytes);  // bounded: the run's pages lie within the last page
      if (run.size() > page_bytes_) {
        file_.pread_all(std::span(run).subspan(page_bytes_), (value.page + 1) * page_bytes_);
      }
    }
    hasher_.add(run);
    const size_t held = std::min<size_t>(run.size() - sizeof(PageHeader), bytes);
    value.prefix = std::span<const std::byte>(run).subspan(sizeof(PageHeader), held);
    // A value's last byte must be in the file, or LMDB's map ends before it.
    if (value.page * page_bytes_ + sizeof(PageHeader) + bytes > file_bytes_) {
      corrupt(value.page, fmt::format("a value of {} bytes beyond the end of the file", bytes));
    }
  }
  if (walk.is_free) {
    take_free_pages(number, node.key, value.prefix);
  } else if (visitor_) {
    visitor_(value);
  }
}

void Checker::take_free_pages(uint64_t number, std::span<const std::byte> key,
                              std::span<const std::byte> list) {
  const auto transaction = load<uint64_t>(key, 0);
  if (transaction == 0 || transaction > meta_.transaction) {
    corrupt(number, fmt::format("pages freed by transaction {} of {}", transaction, meta_.transaction));
  }
  if (list.size() % 8 != 0 || list.size() < 8) corrupt(number, "a list of free pages that is none");
  const auto count = load<uint64_t>(list, 0);
  if (count > list.size() / 8 - 1) corrupt(number, fmt::format("a list of {} free pages", count));
  uint64_t previous = kNoPage;
  for (uint64_t i = 1; i <= count; i++) {
    const auto page = load<uint64_t>(list, i * 8);
    if (page >= previous) corrupt(number, "free pages out of order");
    reach(page, 1, number);
    previous = page;
  }
}

LmdbFile Checker::run() {
  choose_meta();
  check_length();
  reached_.assign(meta_.last_page + 1, false);
  Walk free_walk{&meta_.free, true, 0, 0, 0, 0, {}, {}, false};
  walk(free_walk);
  Walk main_walk{&meta_.main, false, 0, 0, 0, 0, {}, {}, false};
  walk(main_walk);
  if (reached_count_ != meta_.last_page - 1) {
    corrupt(0, fmt::format("{} of {} pages belong to nothing", meta_.last_page - 1 - reached_count_,
                           meta_.last_page + 1));
  }
  return {page_bytes_, meta_.transaction, meta_.last_page, file_bytes_, main_walk.entries, hasher_.hex()};
}

}  // namespace

LmdbFile check_lmdb_file(const File& file, bool exact_length, const LmdbVisitor& visitor) {
  return Checker(file, exact_length, visitor).run();
}

}  // namespace headrace::storage
