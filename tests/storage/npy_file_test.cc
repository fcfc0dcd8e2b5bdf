#include "storage/npy_file.h"

#include <sys/stat.h>

#include <limits>

#include "tests/support/expect_error.h"
#include "tests/support/npy_writer.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace storage;
using ::testing::ElementsAre;
using testing::expect_error;
using testing::npy_array;
using testing::npy_file;
using testing::TemporaryDirectory;

constexpr const char* kTwoByThree = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";

class Npy : public ::testing::Test {
 protected:
  NpyFile open(const std::string& content) {
    const std::string path = directory_.path() + "/a.npy";
    testing::write_file(path, content);
    return NpyFile::open(path);
  }
  TemporaryDirectory directory_;
};

TEST_F(Npy, ReadsRowsOfEveryTypeAsNumbers) {
  const auto third_and_fourth = [&](const std::string& content) {
    const NpyFile file = open(content);
    std::vector<float> values(2);
    file.read_floats(2, values);
    return values;
  };
  EXPECT_THAT(third_and_fourth(npy_array<float>({2, 2}, {1, 2, 3, -0.5F})), ElementsAre(3, -0.5F));
  EXPECT_THAT(third_and_fourth(npy_array<double>({4}, {1, 2, 3, 1e-3})), ElementsAre(3, 1e-3F));
  EXPECT_THAT(third_and_fourth(npy_array<uint16_t>({4}, {0, 0, 0x3c00, 0xc000}, "<f2")), ElementsAre(1, -2));
  EXPECT_THAT(third_and_fourth(npy_array<uint8_t>({4}, {1, 0, 1, 0}, "|b1")), ElementsAre(1, 0));
  EXPECT_THAT(third_and_fourth(npy_array<uint8_t>({4, 1}, {0, 0, 7, 255})), ElementsAre(7, 255));
  EXPECT_THAT(third_and_fourth(npy_array<int8_t>({4}, {0, 0, -7, 127})), ElementsAre(-7, 127));
  EXPECT_THAT(third_and_fourth(npy_array<int16_t>({4}, {0, 0, -700, 9})), ElementsAre(-700, 9));
  EXPECT_THAT(third_and_fourth(npy_array<uint16_t>({4}, {0, 0, 65535, 9})), ElementsAre(65535, 9));
  EXPECT_THAT(third_and_fourth(npy_array<int32_t>({4}, {0, 0, -70000, 9})), ElementsAre(-70000, 9));
  EXPECT_THAT(third_and_fourth(npy_array<uint32_t>({4}, {0, 0, 1U << 31, 9})), ElementsAre(2147483648.0F, 9));
  EXPECT_THAT(third_and_fourth(npy_array<int64_t>({4}, {0, 0, -5, 9})), ElementsAre(-5, 9));
  EXPECT_THAT(third_and_fourth(npy_array<uint64_t>({4}, {0, 0, 5, 9})), ElementsAre(5, 9));
}

TEST_F(Npy, KnowsItsShapeInAllVersionsOfTheFormat) {
  for (const int version : {1, 2, 3}) {
    const NpyFile file = open(npy_file(kTwoByThree, std::string(24, '\0'), version));
    EXPECT_THAT(file.shape(), ElementsAre(2, 3));
    EXPECT_EQ(file.rows(), 2U);
    EXPECT_EQ(file.columns(), 3U);
    EXPECT_EQ(file.shape_text(), "[2, 3]");
  }
  EXPECT_EQ(open(npy_array<float>({}, {1})).rows(), 1U);
  EXPECT_EQ(open(npy_array<float>({0, 3}, {})).elements(), 0U);
  EXPECT_EQ(open(npy_array<float>({3, 2, 2}, std::vector<float>(12))).columns(), 4U);
}

TEST_F(Npy, ReadsLongArraysInPieces) {
  std::vector<int16_t> elements(30000);
  for (size_t i = 0; i < elements.size(); i++) elements[i] = static_cast<int16_t>(i);
  const NpyFile file = open(npy_array<int16_t>({elements.size()}, elements));
  std::vector<float> floats(29000);
  std::vector<int64_t> integers(29000);
  file.read_floats(1000, floats);
  file.read_integers(1000, integers);
  for (size_t i = 0; i < floats.size(); i++) {
    ASSERT_EQ(floats[i], static_cast<float>(i + 1000));
    ASSERT_EQ(integers[i], static_cast<int64_t>(i + 1000));
  }
}

TEST_F(Npy, GivesIntegersOnlyOfIntegersThatFit) {
  std::vector<int64_t> values(2);
  open(npy_array<uint8_t>({2}, {1, 0}, "|b1")).read_integers(0, values);
  EXPECT_THAT(values, ElementsAre(1, 0));
  open(npy_array<int64_t>({2}, {INT64_MIN, INT64_MAX})).read_integers(0, values);
  EXPECT_THAT(values, ElementsAre(INT64_MIN, INT64_MAX));
  expect_error(ErrorKind::kUsage, "element 1 is 9223372036854775808", [&] {
    open(npy_array<uint64_t>({2}, {1, uint64_t{1} << 63})).read_integers(0, values);
  });
  expect_error(ErrorKind::kUsage, "holds floats where whole numbers are needed", [&] {
    open(npy_array<float>({2}, {1, 2})).read_integers(0, values);
  });
}

TEST_F(Npy, TakesHeadersThatPythonWouldTake) {
  for (const char* header :
       {R"({"shape":(2,3),"descr":"<f4","fortran_order":False})",
        "  { 'fortran_order' : False , 'shape' : ( 2 , 3 , ) , 'descr' : '<f4' , }  \n\n"}) {
    const NpyHeader parsed = parse_npy_header(header, "file");
    EXPECT_EQ(parsed.type, ElementType::kF32);
    EXPECT_THAT(parsed.shape, ElementsAre(2, 3));
  }
}

std::string header_with(const std::string& shape, const std::string& descr = "'<f4'") {
  return "{'descr': " + descr + ", 'fortran_order': False, 'shape': " + shape + "}";
}

TEST(NpyHeader, IsRefusedWhereItDoesNotFit) {
  std::string many = "(";
  for (int i = 0; i < 33; i++) many += "1,";
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "no '{' where one belongs"},
      {"{", "no ''' where one belongs"},
      {"{}", "no descr, no fortran_order or no shape"},
      {"{'descr': '<f4'", "no '}'"},
      {"{'descr': '<f4'}", "no descr, no fortran_order or no shape"},
      {"{'descr': '<f4", "a text without an end"},
      {"{'descr': '<f4', 'descr': '<f4'}", "two fields 'descr'"},
      {"{'more': 1}", "a field 'more'"},
      {header_with("(2,)") + "x", "something behind its end"},
      {header_with("(2)"), "a shape that is no tuple"},
      {header_with("(-2,)"), "whole numbers"},
      {header_with("(2.0,)"), "a shape that is no tuple"},
      {header_with("(2, 1e3)"), "no ')'"},
      {header_with("(,)"), "whole numbers"},
      {header_with("(18446744073709551616,)"), "whole numbers"},
      {header_with("__import__('os')"), "no '(' where one belongs"},
      {header_with(many + ")"), "too many dimensions"},
      {header_with("(4294967296, 4294967296)"), "does not fit in 64 bits"},
      {header_with("(4611686018427387904,)"), "does not fit in 64 bits"},
      {header_with("(0, 4294967296, 4294967296)"), "does not fit in 64 bits"},
      {header_with("(2,)", "'|O'"), "an array of Python objects"},
      {header_with("(2,)", "[('a', '<f4')]"), "an array of records"},
      {header_with("(2,)", "'>f4'"), "elements of type '>f4'"},
      {header_with("(2,)", "'<U5'"), "elements of type '<U5'"},
      {header_with("(2,)", "'<c8'"), "elements of type '<c8'"},
      {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", "column by column"},
      {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}", "neither True nor False"},
  };
  for (const auto& [header, why] : cases) {
    SCOPED_TRACE(header);
    expect_error(ErrorKind::kUsage, why, [&, text = header] { parse_npy_header(text, "file"); });
  }
}

TEST_F(Npy, RefusesFilesThatAreCutOrToldWrongly) {
  const std::string sound = npy_file(kTwoByThree, std::string(24, '\0'));
  const std::string wide = npy_file(kTwoByThree, std::string(24, '\0'), 2);
  std::string long_header = wide.substr(0, 12);
  long_header[11] = 1;
  std::string newer = sound, minor = sound;
  newer[6] = 4;
  minor[7] = 1;
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "is no .npy file"},
      {"\x93NUMP", "is no .npy file"},
      {"PK\3\4 an archive of several arrays", "is no .npy file"},
      {sound.substr(0, 9), "is cut short: it has 9 bytes"},
      {wide.substr(0, 11), "is cut short: it has 11 bytes"},
      {sound.substr(0, 40), "is cut short: it has 40 bytes"},
      {sound.substr(0, sound.size() - 1), "its header promises 24 bytes of elements, and 23 follow"},
      {sound + "x", "has too many bytes"},
      {long_header, "its header would have"},
      {newer, "has version 4.0"},
      {minor, "has version 1.1"},
  };
  for (const auto& [content, why] : cases) {
    SCOPED_TRACE(why);
    expect_error(ErrorKind::kUsage, why, [&, bytes = content] { open(bytes); });
  }
}

TEST_F(Npy, RefusesWhatIsNoFile) {
  expect_error(ErrorKind::kUsage, "is not a file", [&] { NpyFile::open(directory_.path()); });
  expect_error(ErrorKind::kUsage, "No such file", [&] { NpyFile::open(directory_.path() + "/none.npy"); });
  const std::string pipe = directory_.path() + "/pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_error(ErrorKind::kUsage, "is not a file", [&] { NpyFile::open(pipe); });
}

}  // namespace
}  // namespace headrace
