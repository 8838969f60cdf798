// What both programs share: reading an image, and printing what was found in it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// Pixels as the exported files take them: RGB from 0 to 255, one plane after the other.
struct Image {
  int64_t height = 0, width = 0;
  std::vector<float> planes;  // 3 x height x width
};

inline int64_t read_number(std::istream& file) {
  while (file >> std::ws && file.peek() == '#') {
    file.ignore(1 << 20, '\n');
  }
  int64_t number = 0;
  if (!(file >> number)) {
    throw std::runtime_error("the header of the image is cut off");
  }
  return number;
}

// Reads a binary PPM with 8 bits a channel. Any image becomes one by: magick photo.jpg photo.ppm
inline Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[2] = {};
  if (!file.read(magic, 2)) {
    throw std::runtime_error("cannot read " + path);
  }
  if (magic[0] != 'P' || magic[1] != '6') {
    throw std::runtime_error(path + " is no binary PPM (P6)");
  }
  Image image;
  image.width = read_number(file);
  image.height = read_number(file);
  const int64_t area = image.width * image.height;
  if (read_number(file) != 255 || image.width < 1 || image.height < 1 || area > (1 << 28)) {
    throw std::runtime_error(path + " has not 8 bits a channel, or no sensible size");
  }
  file.get();  // the one white space after the header
  std::vector<unsigned char> bytes(3 * area);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), bytes.size())) {
    throw std::runtime_error(path + " is cut off");
  }
  image.planes.resize(3 * area);
  for (int64_t pixel = 0; pixel < area; ++pixel) {
    for (int64_t channel = 0; channel < 3; ++channel) {
      image.planes[channel * area + pixel] = bytes[3 * pixel + channel];
    }
  }
  return image;
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

// Prints a line for each detection: class, score and box as x1 y1 x2 y2 in pixels, between tabs.
// `scores` are sorted, the best first; empty slots have the score 0.
inline void print_detections(const float* boxes, const float* scores, const int64_t* labels,
                             int64_t count, const std::vector<std::string>& classes,
                             float threshold) {
  for (int64_t i = 0; i < count && scores[i] > 0 && scores[i] >= threshold; ++i) {
    const float* box = boxes + 4 * i;
    std::printf("%s\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\n", classes.at(labels[i]).c_str(), scores[i],
                box[0], box[1], box[2], box[3]);
  }
}

// Runs a program of the words MODEL IMAGE [SCORE] and reports what goes wrong in one line.
template <typename Detect>
int run_main(int argc, char** argv, Detect detect) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: %s MODEL IMAGE.ppm [LOWEST_SCORE, 0.3]\n", argv[0]);
    return 2;
  }
  try {
    detect(argv[1], read_ppm(argv[2]), argc == 4 ? std::strtof(argv[3], nullptr) : 0.3f);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
