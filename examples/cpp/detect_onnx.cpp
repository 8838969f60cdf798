// Detects objects by an .onnx file of `razorlite export` and ONNX Runtime.
#include <onnxruntime_c_api.h>

#include <memory>

#include "detect.h"

static const OrtApi* const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);

// Every function returns a status, null where all is well.
static void check(OrtStatus* status) {
  if (status != nullptr) {
    const std::string message = api->GetErrorMessage(status);
    api->ReleaseStatus(status);
    throw std::runtime_error(message);
  }
}

// What a function puts into its last argument, released at the end.
template <typename T, typename Function, typename... Arguments>
std::unique_ptr<T, void (*)(T*)> made(void (*release)(T*), Function function, Arguments... given) {
  T* created = nullptr;
  check(function(given..., &created));
  return {created, release};
}

static std::string text_in(const OrtSession* session, const char* key) {
  const auto texts = made(api->ReleaseModelMetadata, api->SessionGetModelMetadata, session);
  OrtAllocator* allocator = nullptr;
  check(api->GetAllocatorWithDefaultOptions(&allocator));
  char* found = nullptr;
  check(api->ModelMetadataLookupCustomMetadataMap(texts.get(), allocator, key, &found));
  const std::string text = found == nullptr ? "" : found;
  check(api->AllocatorFree(allocator, found));
  return text;
}

template <typename T>
T* data_of(OrtValue* value) {
  void* data = nullptr;
  check(api->GetTensorMutableData(value, &data));
  return static_cast<T*>(data);
}

static size_t count_of(const OrtValue* value) {
  const auto shape =
      made(api->ReleaseTensorTypeAndShapeInfo, api->GetTensorTypeAndShape, value);
  size_t count = 0;
  check(api->GetTensorShapeElementCount(shape.get(), &count));
  return count;
}

static void detect(const std::string& path, const Image& image, float threshold) {
  const auto env = made(api->ReleaseEnv, api->CreateEnv, ORT_LOGGING_LEVEL_WARNING, "detect");
  const auto options = made(api->ReleaseSessionOptions, api->CreateSessionOptions);
  const auto session =
      made(api->ReleaseSession, api->CreateSession, env.get(), path.c_str(), options.get());
  const auto memory = made(api->ReleaseMemoryInfo, api->CreateCpuMemoryInfo, OrtDeviceAllocator,
                           OrtMemTypeDefault);
  const int64_t shape[] = {1, 3, image.height, image.width};
  const auto pixels =
      made(api->ReleaseValue, api->CreateTensorWithDataAsOrtValue, memory.get(),
           static_cast<void*>(const_cast<float*>(image.planes.data())),
           image.planes.size() * sizeof(float), shape, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  const char* const inputs[] = {"images"};
  const char* const outputs[] = {"boxes", "scores", "labels"};
  const OrtValue* const given[] = {pixels.get()};
  OrtValue* found[3] = {};
  check(api->Run(session.get(), nullptr, inputs, given, 1, outputs, 3, found));
  print_detections(data_of<float>(found[0]), data_of<float>(found[1]), data_of<int64_t>(found[2]),
                   count_of(found[1]), lines_of(text_in(session.get(), "classes.txt")), threshold);
  for (OrtValue* value : found) {
    api->ReleaseValue(value);
  }
}

int main(int argc, char** argv) { return run_main(argc, argv, detect); }
