// GGUF files: what is written is read, and what lies is refused by name.
#include "examples/reference_engine/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "tests/examples/gguf_writer.h"

namespace baton::reference {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

GgufWriter sample() {
  GgufWriter w;
  w.add_string("text", "bytes \xff\x01 of any kind");
  w.add_scalar("u8", GgufType::kUint8, uint8_t{200});
  w.add_scalar("i8", GgufType::kInt8, int8_t{-100});
  w.add_scalar("u16", GgufType::kUint16, uint16_t{60000});
  w.add_scalar("i16", GgufType::kInt16, int16_t{-30000});
  w.add_u32("u32", 4000000000u);
  w.add_scalar("i32", GgufType::kInt32, int32_t{2000000000});
  w.add_scalar("u64", GgufType::kUint64, uint64_t{1} << 63);
  w.add_scalar("i64", GgufType::kInt64, int64_t{-5});
  w.add_float("f32", 0.5f);
  w.add_scalar("f64", GgufType::kFloat64, 0.25);
  w.add_scalar("yes", GgufType::kBool, uint8_t{1});
  w.add_strings("names", std::vector<std::string>{"one", "", "three"});
  w.add_numbers<int32_t>("types", GgufType::kInt32, std::vector<int32_t>{3, -1, 7});
  w.add_numbers<float>("scores", GgufType::kFloat32, std::vector<float>{1.5f});
  w.add_f32("matrix", {3, 2}, std::vector<float>{1, 2, 3, 4, 5, 6});
  w.add_f32("row", {2}, std::vector<float>{7, 8});
  return w;
}

std::vector<float> row(const GgufFile& file, std::string_view name, uint64_t index) {
  const GgufTensor* tensor = file.find_tensor(name);
  EXPECT_NE(tensor, nullptr) << name;
  std::vector<float> out(tensor->row_elements());
  tensor->dequantize_row(index, out.data());
  return out;
}

TEST(GgufTest, ReadsBackWhatWasWritten) {
  for (const uint32_t version : {2u, 3u}) {
    for (const uint64_t alignment : {8u, 32u, 4096u}) {
      GgufWriter w = sample();
      w.version = version;
      w.alignment = alignment;
      const std::string bytes = w.finish();
      const auto file = parse_gguf(bytes);
      ASSERT_TRUE(file.ok()) << file.status().to_string();
      EXPECT_EQ(*file->get_string("text"), "bytes \xff\x01 of any kind");
      EXPECT_EQ(*file->get_unsigned("u8"), 200u);
      EXPECT_EQ(*file->get_unsigned("u16"), 60000u);
      EXPECT_EQ(*file->get_unsigned("u32"), 4000000000u);
      EXPECT_EQ(*file->get_unsigned("i32"), 2000000000u);
      EXPECT_EQ(*file->get_unsigned("u64"), uint64_t{1} << 63);
      EXPECT_EQ(std::get<int64_t>(*file->find("i8")), -100);
      EXPECT_EQ(std::get<int64_t>(*file->find("i16")), -30000);
      EXPECT_EQ(std::get<int64_t>(*file->find("i64")), -5);
      EXPECT_EQ(*file->get_float("f32"), 0.5);
      EXPECT_EQ(*file->get_float("f64"), 0.25);
      EXPECT_TRUE(std::get<bool>(*file->find("yes")));
      EXPECT_THAT(*file->get_strings("names"), ElementsAre("one", "", "three"));
      EXPECT_THAT(*file->get_integers("types"), ElementsAre(3, -1, 7));
      ASSERT_EQ(file->tensors().size(), 2u);
      EXPECT_EQ(file->find_tensor("matrix")->rows(), 2u);
      EXPECT_THAT(row(*file, "matrix", 1), ElementsAre(4, 5, 6));
      EXPECT_THAT(row(*file, "row", 0), ElementsAre(7, 8));
      EXPECT_EQ(file->find_tensor("other"), nullptr);
    }
  }
}

TEST(GgufTest, TypedAccessSaysWhatIsMissing) {
  const std::string bytes = sample().finish();
  const auto file = parse_gguf(bytes);
  ASSERT_TRUE(file.ok());
  const auto expect = [](const Status& status, const char* key, const char* found) {
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("test.gguf"));
    EXPECT_THAT(status.message(), HasSubstr(key));
    EXPECT_THAT(status.message(), HasSubstr(found));
  };
  expect(file->get_unsigned("nothing").status(), "\"nothing\"", "found nothing");
  expect(file->get_unsigned("i64").status(), "\"i64\"", "found another type");
  expect(file->get_unsigned("text").status(), "\"text\"", "found another type");
  expect(file->get_float("u32").status(), "\"u32\"", "found another type");
  expect(file->get_string("u32").status(), "\"u32\"", "found another type");
  expect(file->get_strings("types").status(), "\"types\"", "found another type");
  expect(file->get_integers("names").status(), "\"names\"", "found another type");
  expect(file->get_integers("scores").status(), "\"scores\"", "found another type");
}

TEST(GgufTest, EveryTruncationIsRefused) {
  const std::string whole = sample().finish();
  // The last tensor's padding is not its data.
  const size_t needed = whole.size() - (32 - 2 * sizeof(float));
  for (size_t size = 0; size < needed; ++size) {
    const std::string cut = whole.substr(0, size);  // of its own, so that ASan sees reads beyond
    const auto file = parse_gguf(cut);
    ASSERT_FALSE(file.ok()) << size;
    ASSERT_EQ(file.status().code(), Code::kInvalidArgument);
    ASSERT_THAT(file.status().message(), testing::StartsWith("test.gguf: ")) << size;
  }
  EXPECT_TRUE(parse_gguf(whole.substr(0, needed)).ok());
}

// Any byte may be anything: a Status or a file whose every tensor can be read.
TEST(GgufTest, DamagedFilesAreRefusedOrReadable) {
  const std::string whole = sample().finish();
  std::mt19937 random(1);
  size_t refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = whole;
    for (int i = random() % 3; i >= 0; --i) {
      const char values[] = {0, 1, 9, 127, -128, -1, static_cast<char>(random())};
      damaged[random() % damaged.size()] = values[random() % std::size(values)];
    }
    const auto file = parse_gguf(damaged);
    if (!file.ok()) {
      ++refused;
      continue;
    }
    for (const auto& tensor : file->tensors()) {
      std::vector<float> out(tensor.row_elements());
      for (uint64_t r = 0; r < tensor.rows(); ++r) tensor.dequantize_row(r, out.data());
    }
    (void)file->get_strings("names");
    (void)file->get_integers("types");
  }
  EXPECT_GT(refused, 500u);
  EXPECT_LT(refused, 4000u);
}

std::string number(uint64_t value, size_t size = 8) {
  return std::string(reinterpret_cast<const char*>(&value), size);
}

struct Lie {
  const char* name;
  std::function<std::string()> make;
  const char* says;
};

class GgufLies : public testing::TestWithParam<Lie> {};

TEST_P(GgufLies, AreRefusedByName) {
  const std::string bytes = GetParam().make();
  const auto file = parse_gguf(bytes);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(file.status().message(), testing::StartsWith("test.gguf: "));
  EXPECT_THAT(file.status().message(), HasSubstr(GetParam().says));
}

std::string with_header(uint64_t tensors, uint64_t values, const std::string& rest = {}) {
  return "GGUF" + number(3, 4) + number(tensors) + number(values) + rest;
}

std::string with_value(uint32_t type, const std::string& bytes) {
  GgufWriter w;
  w.add_raw("key", type, bytes);
  return w.finish() + std::string(64, '\0');
}

std::string with_tensor(GgufWriter::Tensor tensor, uint64_t alignment = 32) {
  GgufWriter w;
  w.alignment = alignment;
  w.add_tensor(std::move(tensor));
  return w.finish();
}

std::string nested_arrays(int depth) {
  std::string bytes;
  for (int i = 0; i < depth; ++i) bytes += number(9, 4) + number(1);
  return bytes + number(0, 4) + number(1) + "x";
}

const Lie kLies[] = {
    {"Magic", [] { return "GGML" + with_header(0, 0).substr(4); }, "magic"},
    {"Version", [] { return "GGUF" + number(4, 4) + with_header(0, 0).substr(8); },
     "version: expected 2 or 3, found 4"},
    {"MetadataCount", [] { return with_header(0, UINT64_MAX); }, "metadata count"},
    {"TensorCount", [] { return with_header(uint64_t{1} << 60, 0); }, "tensor count"},
    {"TensorCountJustTooMany", [] { return with_header(3, 0, std::string(95, '\0')); },
     "tensor count"},
    {"KeyLength", [] { return with_header(0, 1, number(UINT64_MAX) + std::string(40, 'x')); },
     "metadata key 0"},
    {"ValueType", [] { return with_value(13, {}); }, "\"key\": expected a value type below 13"},
    {"StringLength", [] { return with_value(8, number(UINT64_MAX - 4)); }, "\"key\""},
    {"ArrayElementType", [] { return with_value(9, number(77, 4) + number(1)); },
     "expected an element type below 13, found 77"},
    {"ArrayCount", [] { return with_value(9, number(12, 4) + number(uint64_t{1} << 61)); },
     "\"key\": 2305843009213693952 is more"},
    {"StringArrayCount", [] { return with_value(9, number(8, 4) + number(uint64_t{1} << 40)); },
     "is more than the file's"},
    {"ArrayDepth", [] { return with_value(9, nested_arrays(5)); }, "nested at most 4 deep"},
    {"SameKeyTwice",
     [] {
       GgufWriter w;
       w.add_u32("key", 1);
       w.add_u32("key", 2);
       return w.finish();
     },
     "\"key\" occurs twice"},
    {"AlignmentZero",
     [] {
       GgufWriter w;
       w.add_u32("general.alignment", 0);
       return w.finish();
     },
     "\"general.alignment\": expected a power of two"},
    {"AlignmentType",
     [] {
       GgufWriter w;
       w.add_string("general.alignment", "32");
       return w.finish();
     },
     "\"general.alignment\""},
    {"RankZero",
     [] {
       return with_tensor({"t", {}, 0, std::string(64, '\0')});
     },
     "expected 1 to 4 dimensions, found 0"},
    {"RankFive",
     [] {
       return with_tensor({"t", {1, 1, 1, 1, 1}, 0, "abcd"});
     },
     "expected 1 to 4 dimensions, found 5"},
    {"DimensionZero",
     [] {
       return with_tensor({"t", {0, 4}, 0, {}});
     },
     "dimension 0 is 0"},
    {"DimensionProduct",
     [] {
       return with_tensor({"t", {uint64_t{1} << 33, uint64_t{1} << 33}, 0, {}});
     },
     "dimension 1 is 8589934592"},
    {"TensorType",
     [] {
       return with_tensor({"t", {32}, 2, std::string(64, '\0')});
     },
     "\"t\": expected type F32"},
    {"PartialBlock",
     [] {
       return with_tensor({"t", {33, 2}, 3, std::string(200, '\0')});
     },
     "multiple of 32 elements, found 33"},
    {"OffsetUnaligned",
     [] {
       return with_tensor({"t", {1}, 0, std::string(64, '\0'), 4});
     },
     "expected a multiple of 32"},
    {"OffsetBeyond",
     [] {
       return with_tensor({"t", {1}, 0, std::string(64, '\0'), uint64_t{1} << 40});
     },
     "\"t\": expected 4 bytes at offset"},
    {"OffsetOverflow",
     [] {
       return with_tensor({"t", {8}, 0, std::string(64, '\0'), UINT64_MAX - 31});
     },
     "\"t\": expected 32 bytes at offset"},
    {"DataTooShort",
     [] {
       return with_tensor({"t", {9}, 0, std::string(32, '\0')});
     },
     "\"t\": expected 36 bytes at offset 0 of the data section, which has 32"},
    {"SameTensorTwice",
     [] {
       GgufWriter w;
       for (int i = 0; i < 2; ++i) w.add_f32("t", {1}, std::vector<float>{1});
       return w.finish();
     },
     "tensor \"t\" occurs twice"},
    {"TensorsOverlap",
     [] {
       GgufWriter w;
       for (const char* name : {"a", "b", "c"}) {
         w.add_tensor({name, {8}, 0, name[0] == 'a' ? std::string(64, '\0') : std::string(), 0});
       }
       return w.finish();
     },
     "do not overlap"},
};
INSTANTIATE_TEST_SUITE_P(Lies, GgufLies, testing::ValuesIn(kLies),
                         [](const auto& info) { return info.param.name; });

TEST(GgufTest, FilesThatAreNoneAreToldApart) {
  EXPECT_EQ(GgufFile::open("/nonexistent/model.gguf").status().code(), Code::kNotFound);
  EXPECT_THAT(GgufFile::open("/").status().message(), HasSubstr("no regular file"));
  const auto path = std::filesystem::path(testing::TempDir()) / "gguf_test.gguf";
  std::ofstream(path).close();
  EXPECT_THAT(GgufFile::open(path).status().message(), HasSubstr("magic"));
  std::ofstream(path, std::ios::binary) << sample().finish();
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_THAT(row(*file, "matrix", 0), ElementsAre(1, 2, 3));
  std::filesystem::remove(path);
}

// Halves: 0x3800 is 0.5, 0xc000 is -2, 0x3c00 is 1, 0x0001 is 2^-24.
TEST(GgufTest, DequantisesLikeTheBlockFormatsSay) {
  GgufWriter w;
  std::string q4;
  for (const uint16_t half : {0x3800, 0xc000}) q4 += number(half, 2);  // scale, minimum
  for (int i = 0; i < 16; ++i) q4 += static_cast<char>(i | (15 - i) << 4);
  w.add_tensor({"q4", {32}, 3, q4});
  std::string q8 = number(0x3800, 2);
  for (int i = 0; i < 32; ++i) q8 += static_cast<char>(i * 8 - 128);
  w.add_tensor({"q8", {32, 2}, 8, std::string(34, '\0') + q8});
  std::string halves;
  for (const uint16_t half : {0x3c00, 0xc000, 0x0001, 0x8000, 0x7bff, 0x7c00}) {
    halves += number(half, 2);
  }
  w.add_tensor({"f16", {6}, 1, halves});
  const std::string bytes = w.finish();
  const auto file = parse_gguf(bytes);
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  const auto a = row(*file, "q4", 0);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(a[i], static_cast<float>(i) * 0.5f - 2.0f);
    EXPECT_EQ(a[i + 16], static_cast<float>(15 - i) * 0.5f - 2.0f);
  }
  EXPECT_THAT(row(*file, "q8", 0), testing::Each(0.0f));
  const auto b = row(*file, "q8", 1);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(b[i], static_cast<float>(i * 8 - 128) * 0.5f);
  EXPECT_THAT(row(*file, "f16", 0), ElementsAre(1.0f, -2.0f, 0x1p-24f, -0.0f, 65504.0f, HUGE_VALF));
}

}  // namespace
}  // namespace baton::reference
