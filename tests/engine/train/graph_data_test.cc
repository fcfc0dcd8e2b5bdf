#include "engine/train/graph_data.h"

#include <filesystem>
#include <limits>

#include "tests/support/expect_error.h"
#include "tests/support/npy_writer.h"
#include "tests/support/temporary_directory.h"

namespace headrace::train {
namespace {

using ::testing::ElementsAre;
using testing::expect_error;
using testing::npy_array;
using Bytes = std::vector<uint8_t>;

class GraphFolder : public ::testing::Test {
 protected:
  GraphFolder() {
    write("features.npy", npy_array<float>({4, 2}, {0, 1, 2, 3, 4, 5, 6, 7}));
    write("labels.npy", npy_array<int64_t>({4}, {0, 1, 1, 0}));
    write("edges.txt", "# a comment\n0 1\n\n1\t2\r\n2 1\n3 3\n1 2");
    write("train_mask.npy", npy_array<uint8_t>({4}, {1, 1, 0, 0}, "|b1"));
    write("test_mask.npy", npy_array<uint8_t>({4}, {0, 0, 1, 1}, "|b1"));
  }
  void write(const std::string& name, const std::string& content) {
    testing::write_file(directory_ / name, content);
  }
  void remove(const std::string& name) { std::filesystem::remove(directory_ / name); }
  GraphData open(bool training = true) const {
    return GraphData({.path = directory_.path(), .training = training});
  }
  BatchData batch(bool training = true) const {
    BatchData batch;
    open(training).fetch(0, batch);
    return batch;
  }
  void expect_refused(const std::string& why, bool training = true) const {
    expect_error(ErrorKind::kUsage, why, [&] { open(training); });
  }
  testing::TemporaryDirectory directory_;
};

TEST_F(GraphFolder, GivesTheWholeGraphWithTheMasksLabels) {
  EXPECT_THAT(batch(true).targets, ElementsAre(0, 1, -1, -1));
  EXPECT_THAT(batch(false).targets, ElementsAre(-1, -1, 1, 0));
  const GraphData data = open();
  EXPECT_EQ(data.shape().samples, 4U);
  EXPECT_EQ(data.shape().feature_columns, 2U);
  EXPECT_EQ(data.shape().classes, 2U);
  std::vector<float> rows(4);
  data.read_features(1, rows);
  EXPECT_THAT(rows, ElementsAre(2, 3, 4, 5));
  remove("train_mask.npy");
  EXPECT_THAT(batch(true).targets, ElementsAre(0, 1, 1, 0));
}

TEST_F(GraphFolder, CountsAnEdgeOnceInBothDirectionsAndEveryNodeAsItsOwnNeighbour) {
  const GraphData data = open();
  EXPECT_EQ(data.graph().edges(), 2U);
  const math::Adjacency a = data.graph().adjacency();
  EXPECT_THAT(std::vector<int64_t>(a.first, a.first + 5), ElementsAre(0, 2, 5, 7, 8));
  EXPECT_THAT(std::vector<int32_t>(a.columns, a.columns + 8), ElementsAre(0, 1, 0, 1, 2, 1, 2, 3));
  remove("edges.txt");
  write("edges.npy", npy_array<int32_t>({3, 2}, {1, 0, 2, 1, 2, 1}));
  EXPECT_EQ(open().graph().edges(), 2U);
}

TEST_F(GraphFolder, ReadsEdgesAcrossPieces) {
  std::string text;
  for (int i = 0; i < 100000; i++) text += i % 2 == 0 ? "0 1\n" : "1 3\n";
  write("edges.txt", text);
  EXPECT_EQ(open().graph().edges(), 2U);
  write("edges.txt", text + "1 4\n");
  expect_refused("edges.txt: line 100001 names node 4, and there are 4");
}

TEST_F(GraphFolder, RefusesEdgesThatAreNone) {
  for (const auto& [text, why] : std::vector<std::pair<std::string, std::string>>{
           {"0 1\n2 4\n", "edges.txt: line 2 names node 4, and there are 4"},
           {"0\n", "line 1 has only one number"},
           {"0 1 0.5\n", "line 1 has '0.5' behind its two numbers"},
           {"0 -1\n", "line 1 has '-1' where a node number belongs"},
           {"\n0 x", "line 2 has 'x' where a node number belongs"},
           {"0 99999999999999999999\n", "where a node number belongs"},
           {std::string(9000, '1'), "line 1 is longer"}}) {
    write("edges.txt", text);
    expect_refused(why);
  }
  write("edges.npy", npy_array<int32_t>({1, 2}, {0, 1}));
  expect_refused("has both edges.txt and edges.npy");
  remove("edges.txt");
  write("edges.npy", npy_array<int32_t>({2, 2}, {0, 1, 1, -1}));
  expect_refused("edges.npy: row 1 names node -1");
  write("edges.npy", npy_array<int32_t>({2, 3}, {0, 1, 1, 1, 1, 1}));
  expect_refused("has the shape [2, 3], not [edges, 2]");
  write("edges.npy", npy_array<float>({1, 2}, {0, 1}));
  expect_refused("holds floats");
  remove("edges.npy");
  expect_refused("has neither edges.txt nor edges.npy");
}

TEST_F(GraphFolder, RefusesLabelsMasksAndFeaturesThatDoNotFit) {
  write("labels.npy", npy_array<int64_t>({4}, {0, 1, -1, 0}));
  expect_refused("labels.npy: row 2 has the label -1");
  write("labels.npy", npy_array<int64_t>({4}, {0, 1, 1 << 20, 0}));
  expect_refused("row 2 has the label 1048576");
  write("labels.npy", npy_array<int64_t>({3}, {0, 1, 1}));
  expect_refused("labels.npy has the shape [3], and there are 4 nodes");
  write("labels.npy", npy_array<int64_t>({4}, {0, 2, 2, 0}));
  expect_refused("class 1 of 3 has no row");
  write("labels.npy", npy_array<int64_t>({4}, {0, 0, 1, 1}));
  expect_refused("train_mask.npy: class 1 of 2 has no row to train on");
  open(false);
  write("labels.npy", npy_array<int64_t>({4}, {0, 1, 1, 0}));
  write("train_mask.npy", npy_array<uint8_t>({4}, {1, 1, 0, 2}));
  expect_refused("train_mask.npy: row 3 has 2, not 0 or 1");
  write("train_mask.npy", npy_array<uint8_t>({5}, {1, 1, 0, 0, 0}, "|b1"));
  expect_refused("train_mask.npy has the shape [5], and there are 4 nodes");
  write("test_mask.npy", npy_array<uint8_t>({4}, {0, 0, 0, 0}, "|b1"));
  expect_refused("test_mask.npy chooses no row", false);
  write("features.npy", npy_array<float>({4}, {0, 1, 2, 3}));
  expect_refused("features.npy has the shape [4], not [nodes, columns]");
}

TEST_F(GraphFolder, NamesAFeatureThatIsNotFinite) {
  write("features.npy",
        npy_array<float>({4, 2}, {0, 1, 2, 3, 4, std::numeric_limits<float>::infinity(), 6, 7}));
  const GraphData data = open();
  std::vector<float> rows(6);
  expect_error(ErrorKind::kUsage, "features.npy: row 2, column 1 is inf",
               [&] { data.read_features(1, rows); });
}

TEST_F(GraphFolder, TakesManyGraphsWithLabelsOfTheirOwn) {
  write("graph_ids.npy", npy_array<int64_t>({4}, {0, 1, 1, 1}));
  write("labels.npy", npy_array<int64_t>({2}, {1, 0}));
  write("train_mask.npy", npy_array<uint8_t>({2}, {1, 1}, "|b1"));
  write("edges.txt", "1 2\n");
  const GraphData data = open();
  EXPECT_TRUE(data.of_graphs());
  EXPECT_THAT(data.graph().graph_first(), ElementsAre(0, 1, 4));
  EXPECT_THAT(batch().targets, ElementsAre(1, 0));
  write("edges.txt", "0 1\n");
  expect_refused("an edge leads from node 0 to node 1, which belongs to another graph");
  write("graph_ids.npy", npy_array<int64_t>({4}, {0, 2, 2, 2}));
  expect_refused("graph_ids.npy: row 1 has 2 where 0 or 1 belongs");
}

TEST_F(GraphFolder, IsToldFromOthersByItsFingerprint) {
  const std::string before = open().fingerprint(), content = open().content();
  EXPECT_EQ(open().fingerprint(), before);
  write("labels.npy", npy_array<int64_t>({4}, {1, 0, 1, 0}));
  EXPECT_NE(open().fingerprint(), before);
  EXPECT_EQ(open().content(), content) << "other labels of the same graph";
  write("edges.txt", "0 1\n");
  EXPECT_NE(open().content(), content);
}

}  // namespace
}  // namespace headrace::train
