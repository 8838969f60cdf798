// The part of ONNX Runtime's C interface that detect_onnx.cpp uses, for where its own header is
// not at hand: the wheel of PyPI has the library alone. The interface is one table of functions.
// Releases add to its end, and nothing in it ever moves, so that a program runs with any newer
// library. Functions that are not used are `unused`, their numbers in the table beside them.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

#define ORT_API_VERSION 2

struct OrtAllocator;
struct OrtEnv;
struct OrtMemoryInfo;
struct OrtModelMetadata;
struct OrtRunOptions;
struct OrtSession;
struct OrtSessionOptions;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2 };
enum OrtAllocatorType { OrtDeviceAllocator = 0 };
enum OrtMemType { OrtMemTypeDefault = 0 };
enum ONNXTensorElementDataType { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1 };

using OrtStatusPtr = OrtStatus*;
using Unused = void (*)();

struct OrtApi {
  Unused unused_0[2];
  const char* (*GetErrorMessage)(const OrtStatus*);                                    // 2
  OrtStatusPtr (*CreateEnv)(OrtLoggingLevel, const char* name, OrtEnv** out);          // 3
  Unused unused_4[3];
  OrtStatusPtr (*CreateSession)(const OrtEnv*, const char* path, const OrtSessionOptions*,
                                OrtSession** out);                                     // 7
  Unused unused_8[1];
  OrtStatusPtr (*Run)(OrtSession*, const OrtRunOptions*, const char* const* input_names,
                      const OrtValue* const* inputs, size_t input_count,
                      const char* const* output_names, size_t output_count,
                      OrtValue** outputs);                                             // 9
  OrtStatusPtr (*CreateSessionOptions)(OrtSessionOptions** out);                       // 10
  Unused unused_11[38];
  OrtStatusPtr (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo*, void* data, size_t bytes,
                                                 const int64_t* shape, size_t dimensions,
                                                 ONNXTensorElementDataType,
                                                 OrtValue** out);                      // 49
  Unused unused_50[1];
  OrtStatusPtr (*GetTensorMutableData)(OrtValue*, void** out);                         // 51
  Unused unused_52[12];
  OrtStatusPtr (*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo*,
                                             size_t* out);                             // 64
  OrtStatusPtr (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo** out);  // 65
  Unused unused_66[3];
  OrtStatusPtr (*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemType, OrtMemoryInfo** out);   // 69
  Unused unused_70[6];
  OrtStatusPtr (*AllocatorFree)(OrtAllocator*, void*);                                 // 76
  Unused unused_77[1];
  OrtStatusPtr (*GetAllocatorWithDefaultOptions)(OrtAllocator** out);                  // 78
  Unused unused_79[13];
  void (*ReleaseEnv)(OrtEnv*);                                                         // 92
  void (*ReleaseStatus)(OrtStatus*);                                                   // 93
  void (*ReleaseMemoryInfo)(OrtMemoryInfo*);                                           // 94
  void (*ReleaseSession)(OrtSession*);                                                 // 95
  void (*ReleaseValue)(OrtValue*);                                                     // 96
  Unused unused_97[2];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);                   // 99
  void (*ReleaseSessionOptions)(OrtSessionOptions*);                                   // 100
  Unused unused_101[10];
  OrtStatusPtr (*SessionGetModelMetadata)(const OrtSession*, OrtModelMetadata** out);  // 111
  Unused unused_112[4];
  OrtStatusPtr (*ModelMetadataLookupCustomMetadataMap)(const OrtModelMetadata*, OrtAllocator*,
                                                       const char* key, char** out);   // 116
  Unused unused_117[1];
  void (*ReleaseModelMetadata)(OrtModelMetadata*);                                     // 118
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

const OrtApiBase* OrtGetApiBase();

}  // extern "C"

static_assert(offsetof(OrtApi, ReleaseModelMetadata) == 118 * sizeof(void*), "a function moved");
