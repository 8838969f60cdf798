// Detects objects by a .torchscript file of `razorlite export` and libtorch.
#include <torch/script.h>

#include "detect.h"

static void detect(const std::string& path, const Image& image, float threshold) {
  torch::jit::ExtraFilesMap texts{{"classes.txt", ""}};
  torch::jit::Module model = torch::jit::load(path, torch::kCPU, texts);
  torch::NoGradGuard no_grad;
  const at::Tensor pixels =
      torch::from_blob(const_cast<float*>(image.planes.data()), {1, 3, image.height, image.width});
  const auto found = model.forward({pixels}).toTuple()->elements().vec();
  if (found.size() < 3) {
    throw std::runtime_error(path + " is no detector of boxes, scores and labels");
  }
  const at::Tensor boxes = found[0].toTensor().contiguous();    // (1, K, 4)
  const at::Tensor scores = found[1].toTensor().contiguous();   // (1, K), best first
  const at::Tensor labels = found[2].toTensor().contiguous();   // (1, K)
  print_detections(boxes.data_ptr<float>(), scores.data_ptr<float>(), labels.data_ptr<int64_t>(),
                   scores.size(1), lines_of(texts["classes.txt"]), threshold);
}

int main(int argc, char** argv) { return run_main(argc, argv, detect); }
