#include "storage/safetensors.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include "storage/digest.h"
#include "storage/tensor_values.h"
#include "tests/support/expect_error.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace storage;
using testing::expect_error;
using ::testing::HasSubstr;
using testing::safetensors_file;
using testing::SafetensorsWriter;

constexpr uint64_t kData = 1000;  // bytes behind the headers that are parsed

SafetensorsHeader parse(const std::string& json) { return parse_safetensors_header(json, kData, "file"); }

std::string tensor(const std::string& name, const std::string& shape, const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

TEST(Safetensors, ReadsWhatAHeaderSays) {
  const SafetensorsHeader header =
      parse(R"({"__metadata__":{"format":"pt"},"b":{"shape":[2,3],"data_offsets":[4,28],"dtype":"F32"},)"
            R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"none":{"dtype":"I64","shape":[7,0],)"
            R"("data_offsets":[28,28]},"new":{"dtype":"F4","shape":[9],"data_offsets":[28,1000]}}   )");
  ASSERT_EQ(header.tensors.size(), 4u);
  EXPECT_EQ(header.tensors[0].name, "b");
  EXPECT_EQ(header.tensors[0].elements, 6u);
  EXPECT_EQ(header.tensors[1].elements, 1u);
  EXPECT_EQ(header.tensors[2].elements, 0u);
  EXPECT_EQ(header.tensors[3].type, ElementType::kOther);
  EXPECT_EQ(header.tensors[3].type_name, "F4");
  EXPECT_EQ(header.metadata[0].second, "pt");
  EXPECT_TRUE(header.gaps.empty());
}

TEST(Safetensors, RefusesHeadersThatDoNotFit) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "does not begin with '{'"},
      {"[]", "does not begin with '{'"},
      {"{", "is no JSON at byte"},
      {"{}}", "is no JSON at byte"},
      {"{\"a\":" + std::string(100000, '['), "a list where none belongs"},
      {"{\"\xff\":1}", "is no JSON at byte"},
      {R"({"a":1})", "a number where none belongs"},
      {R"({"a":{}})", "lacks a dtype, shape or data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", "lacks a dtype"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", "has a field 'more'"},
      {R"({"a":{"dtype":"F32","dtype":"F32"}})", "has two fields 'dtype'"},
      {R"({"a":{"dtype":4}})", "a number where none belongs"},
      {R"({"__metadata__":{"a":{}}})", "an object where none belongs"},
      {R"({"__metadata__":{},"__metadata__":{}})", "two fields '__metadata__'"},
      {"{" + tensor("a", "[1]", "[0]") + "}", "has not two data_offsets"},
      {"{" + tensor("a", "[1]", "[0,4,8]") + "}", "more than two data_offsets"},
      {"{" + tensor("a", "[1]", "[-4,0]") + "}", "a negative number"},
      {"{" + tensor("a", "[1]", "[0,4.0]") + "}", "not whole"},
      {"{" + tensor("a", "[1]", "[0,18446744073709551620]") + "}", "not whole"},
      {"{" + tensor("a", "[1]", "[8,4]") + "}", "lies from 8 to 4"},
      {"{" + tensor("a", "[1]", "[998,1002]") + "}", "and 1000 bytes follow"},
      {"{" + tensor("a", "[1]", "[18446744073709551612,18446744073709551615]") + "}", "bytes follow"},
      {"{" + tensor("a", "[2]", "[0,4]") + "}", "not those of 2 elements of F32"},
      {"{" + tensor("a", "[4294967296,4294967296,4]", "[0,0]") + "}", "more than 2^64 elements"},
      {"{" + tensor("a", "[4611686018427387905]", "[0,4]") + "}", "not those of"},
      {"{" + tensor("a", "[1]", "[0,4]") + "," + tensor("a", "[1]", "[4,8]") + "}",
       "two tensors are named 'a'"},
      {"{" + tensor("a", "[2]", "[0,8]") + "," + tensor("b", "[2]", "[4,12]") + "}", "overlaps"},
  };
  for (const auto& refused : cases)
    expect_error(ErrorKind::kCorrupt, refused.second, [&] { parse(refused.first); });
}

TEST(Safetensors, NotesBytesThatBelongToNoTensor) {
  const SafetensorsHeader header =
      parse("{" + tensor("a", "[1]", "[4,8]") + "," + tensor("b", "[1]", "[16,20]") + "}");
  ASSERT_EQ(header.gaps.size(), 3u);
  EXPECT_THAT(header.gaps[0], HasSubstr("the 4 bytes at offset"));
  EXPECT_THAT(header.gaps[1], HasSubstr("the 8 bytes at offset"));
  EXPECT_THAT(header.gaps[2], HasSubstr("the 980 bytes at offset"));
}

class SafetensorsFiles : public ::testing::Test {
 protected:
  std::unique_ptr<TensorSource> open(const std::string& name) {
    return open_source(directory_ / name, {.use = SourceUse::kRead});
  }
  void write(const std::string& name, const std::string& content) {
    testing::write_file(directory_ / name, content);
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(SafetensorsFiles, ThatAreNotWholeOrNotSoundAreRefused) {
  SafetensorsWriter writer;
  writer.add<float>("a", "F32", std::vector<float>(100, 1));
  const std::string whole = writer.file();
  for (size_t bytes = 9; bytes < whole.size(); bytes += 13) {
    write("a.safetensors", whole.substr(0, bytes));
    expect_error(ErrorKind::kCorrupt, "a.safetensors", [&] { open("a.safetensors"); });
  }
  // Lengths that would take all memory, in a file of a few bytes.
  for (const uint64_t bytes : {uint64_t{1} << 63, uint64_t{200'000'000}, ~uint64_t{0}}) {
    std::string file = whole;
    std::memcpy(file.data(), &bytes, sizeof bytes);
    write("a.safetensors", file);
    expect_error(ErrorKind::kCorrupt, "its header would have", [&] { open("a.safetensors"); });
  }
}

TEST_F(SafetensorsFiles, GiveTheirValues) {
  SafetensorsWriter writer;
  writer.add<uint16_t>("f16", "F16", {0x3c00, 0xc000, 0x0001, 0x7c00, 0x7e00});
  writer.add<uint16_t>("bf16", "BF16", {0x3f80, 0xc049});
  writer.add<uint8_t>("e4m3", "F8_E4M3", {0x38, 0x7e, 0x7f, 0x01});
  writer.add<uint8_t>("e5m2", "F8_E5M2", {0x3c, 0x7c, 0x7f, 0x01});
  writer.add<int64_t>("i64", "I64", {-5, 1 << 20});
  writer.add<uint8_t>("bool", "BOOL", {0, 1});
  write("x.safetensors", writer.file());
  const auto source = open("x.safetensors");
  std::vector<std::vector<double>> values;
  for (size_t i = 0; i < source->tensors().size(); i++) {
    const SourceTensor& tensor = source->tensors()[i];
    std::vector<std::byte> bytes(tensor.bytes);
    source->read(i, 0, 0, bytes);
    to_doubles(tensor.planes[0].type, bytes, values.emplace_back(tensor.elements));
  }
  EXPECT_EQ(std::vector<double>(values[0].begin(), values[0].begin() + 4),
            (std::vector<double>{1, -2, 0x1p-24, std::numeric_limits<double>::infinity()}));
  EXPECT_TRUE(std::isnan(values[0][4]));
  EXPECT_EQ(values[1], (std::vector<double>{1, -3.140625}));
  EXPECT_EQ(values[2][0], 1);
  EXPECT_EQ(values[2][1], 448);
  EXPECT_TRUE(std::isnan(values[2][2]));
  EXPECT_EQ(values[2][3], 0x1p-9);
  EXPECT_EQ(values[3][0], 1);
  EXPECT_TRUE(std::isinf(values[3][1]));
  EXPECT_TRUE(std::isnan(values[3][2]));
  EXPECT_EQ(values[3][3], 0x1p-16);
  EXPECT_EQ(values[4], (std::vector<double>{-5, 1 << 20}));
  EXPECT_EQ(values[5], (std::vector<double>{0, 1}));
}

TEST_F(SafetensorsFiles, OfAFolderAreOneSource) {
  SafetensorsWriter first, second, both;
  first.add<float>("a", "F32", {1, 2});
  second.add<float>("b", "F32", {3});
  both.add<float>("b", "F32", {3});
  both.add<float>("a", "F32", {1, 2});
  std::filesystem::create_directory(directory_ / "folder");
  write("folder/m-1.safetensors", first.file());
  write("folder/m-2.safetensors", second.file());
  write("one.safetensors", both.file());
  const auto folder = open("folder");
  ASSERT_EQ(folder->tensors().size(), 2u);
  std::vector<float> value(1);
  folder->read(0, 0, 1, std::as_writable_bytes(std::span(value)));
  EXPECT_EQ(value[0], 2);
  EXPECT_EQ(digest(*folder), digest(*open("one.safetensors")));

  const std::string index = "folder/model.safetensors.index.json";
  write(index, R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  EXPECT_EQ(open("folder")->tensors().size(), 2u);
  write(index, R"({"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors"}})");
  expect_error(ErrorKind::kCorrupt, "tensor 'b' is not in m-1.safetensors", [&] { open("folder"); });
  write(index, R"({"weight_map":{"a":"../one.safetensors"}})");
  expect_error(ErrorKind::kCorrupt, "'a' is said to be in '../one.safetensors'", [&] { open("folder"); });
  write(index, R"([])");
  expect_error(ErrorKind::kCorrupt, "no JSON object with a 'weight_map'", [&] { open("folder"); });
  std::filesystem::remove(directory_ / index);
  write("folder/m-3.safetensors", first.file());
  expect_error(ErrorKind::kCorrupt, "tensor 'a' is both in", [&] { open("folder"); });
}

TEST_F(SafetensorsFiles, AreToldFromWhatIsNot) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {std::string("\x80\x02}q\0.", 6), "is a Python pickle"},
      {std::string("PK\x03\x04\0\0archive/data.pkl", 22), "is a zip archive"},
      {std::string("\x93NUMPY\x01\0v\0{'descr'", 19), "is an array of numpy"},
      {"GGUF\3\0\0\0", "is a GGUF file"},
      {"just text", "neither a run nor a checkpoint nor a safetensors file"},
      {"", "neither a run nor a checkpoint nor a safetensors file"}};
  for (const auto& [content, text] : cases) {
    write("file", content);
    expect_error(ErrorKind::kUsage, text, [&] { open("file"); });
  }
  std::filesystem::create_directory(directory_ / "torch");
  expect_error(ErrorKind::kUsage, "holds no run", [&] { open("torch"); });
  write("torch/pytorch_model.bin", "x");
  expect_error(ErrorKind::kUsage, "may be Python pickles", [&] { open("torch"); });
  expect_error(ErrorKind::kUsage, "No such file or directory", [&] { open("nothing"); });
}

}  // namespace
}  // namespace headrace
