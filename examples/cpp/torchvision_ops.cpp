// The operators of torchvision that exported detectors call, on the CPU. The library in
// torchvision's wheel needs Python; with a torchvision built for C++, link that instead of this.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace {

// Returns the (M,) rows of (N, 4) boxes that no better one overlaps by more than `threshold`.
at::Tensor nms(const at::Tensor& boxes, const at::Tensor& scores, double threshold) {
  const at::Tensor ready = boxes.contiguous();
  const auto box = ready.accessor<float, 2>();
  const auto score = scores.accessor<float, 1>();
  const auto area = [&](int64_t i) { return (box[i][2] - box[i][0]) * (box[i][3] - box[i][1]); };
  std::vector<int64_t> order(boxes.size(0)), kept;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t i, int64_t j) { return score[i] > score[j]; });
  for (const int64_t i : order) {
    const bool gone = std::any_of(kept.begin(), kept.end(), [&](int64_t j) {
      const float width = std::min(box[i][2], box[j][2]) - std::max(box[i][0], box[j][0]);
      const float height = std::min(box[i][3], box[j][3]) - std::max(box[i][1], box[j][1]);
      const float common = std::max(width, 0.0f) * std::max(height, 0.0f);
      return common / (area(i) + area(j) - common) > threshold;
    });
    if (!gone) kept.push_back(i);
  }
  at::Tensor rows = at::empty({static_cast<int64_t>(kept.size())}, at::kLong);
  std::copy(kept.begin(), kept.end(), rows.data_ptr<int64_t>());
  return rows;
}

// Returns the value of an H x W map at a point, between its four neighbours; 0 outside.
float value_at(const float* map, int64_t height, int64_t width, float y, float x) {
  if (y < -1 || y > height || x < -1 || x > width) return 0;
  y = std::max(y, 0.0f);
  x = std::max(x, 0.0f);
  const int64_t top = std::min(static_cast<int64_t>(y), height - 1);
  const int64_t left = std::min(static_cast<int64_t>(x), width - 1);
  const int64_t bottom = std::min(top + 1, height - 1), right = std::min(left + 1, width - 1);
  const float down = top == height - 1 ? 0 : y - top, across = left == width - 1 ? 0 : x - left;
  const float above = map[top * width + left] * (1 - across) + map[top * width + right] * across;
  const float below =
      map[bottom * width + left] * (1 - across) + map[bottom * width + right] * across;
  return above * (1 - down) + below * down;
}

// A cell of a region: where it begins, how large it is, and how many samples it has each way.
struct Cell {
  float top, left, height, width;
  int64_t down, across;
};

float mean_in(const Cell& cell, const float* map, int64_t height, int64_t width) {
  float sum = 0;
  for (int64_t i = 0; i < cell.down; ++i) {
    const float y = cell.top + cell.height * (i + 0.5f) / cell.down;
    for (int64_t j = 0; j < cell.across; ++j) {
      const float x = cell.left + cell.width * (j + 0.5f) / cell.across;
      sum += value_at(map, height, width, y, x);
    }
  }
  return sum / std::max<int64_t>(cell.down * cell.across, 1);
}

// Returns (R, C, rows, columns) means of samples in the cells of regions; a region is a row of
// (R, 5): the number of its image, and a box as x1, y1, x2, y2. Mask R-CNN, arXiv 1703.06870.
at::Tensor roi_align(const at::Tensor& input, const at::Tensor& regions, double scale, int64_t rows,
                     int64_t columns, int64_t sampling, bool aligned) {
  const at::Tensor maps = input.contiguous(), ready = regions.contiguous();
  const int64_t channels = maps.size(1), height = maps.size(2), width = maps.size(3);
  const int64_t cells = rows * columns, area = height * width;
  at::Tensor output = at::empty({ready.size(0), channels, rows, columns}, maps.options());
  const float shift = aligned ? 0.5f : 0.0f, least = aligned ? 0.0f : 1.0f;
  const auto region = ready.accessor<float, 2>();
  at::parallel_for(0, ready.size(0) * cells, 1, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const auto own = region[k / cells];
      const auto side = [&](int i) { return own[i] * static_cast<float>(scale) - shift; };
      const int64_t row = k % cells / columns, column = k % cells % columns;
      Cell cell{};
      cell.height = std::max(side(4) - side(2), least) / rows;
      cell.width = std::max(side(3) - side(1), least) / columns;
      cell.top = side(2) + cell.height * row;
      cell.left = side(1) + cell.width * column;
      cell.down = sampling > 0 ? sampling : static_cast<int64_t>(std::ceil(cell.height));
      cell.across = sampling > 0 ? sampling : static_cast<int64_t>(std::ceil(cell.width));
      const float* image = maps.data_ptr<float>() + static_cast<int64_t>(own[0]) * channels * area;
      float* out = output.data_ptr<float>() + k / cells * channels * cells + k % cells;
      for (int64_t c = 0; c < channels; ++c) {
        out[c * cells] = mean_in(cell, image + c * area, height, width);
      }
    }
  });
  return output;
}

}  // namespace

TORCH_LIBRARY(torchvision, library) {
  library.def("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", &nms);
  library.def(
      "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
      "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
      &roi_align);
}
