// Gathers crops and their faces' states into a network's batch, and scatters its answers. One thread per value, x over
// the values of a row, z over the rows; threads are independent, so the tests run this file on the host.

typedef unsigned long long Address;

// One crop of a batch; addresses on the GPU, 0 if absent. A row without a crop is empty: the network processes old
// values there, and its answer is ignored.
struct Row {
  Address crop;        // 3*S*S, 0..1
  Address restored;    // 3*S*S, written
  Address kept;        // answer for the previous frame: 3*(h/k)*(w/k)
  Address state;       // the network's internal state
  Address kept_next;   // the same after this frame, written
  Address state_next;
  Address occlusion;   // a head's map, written
  Address log_scale;
};

// The constants of an engine.
struct Network {
  int size, x, y, w, h;  // S, and the network's input region
  int shrink;            // k: factor by which its memory is smaller
  int state;             // values of the network's internal state
  int map;               // values of a head's map
  int residual;          // whether to add the answer to the crop
  int remembers;         // whether the engine is recurrent
  float low, high;       // value range of the input ...
  float out_low, out_high;
};

// Clips, but passes NaN through: a later check reports it, and it must not become black.
static __device__ float clip(float v) { return v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v; }

extern "C" __global__ void gather(const Row* rows, const Network* network, float* crop, float* past, float* known,
                                  float* state, float* shrunk) {
  const Network n = *network;
  const Row row = rows[blockIdx.z];
  if (!row.crop) return;
  const int area = n.w * n.h;
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const float* from = (const float*)row.crop;
  if (i < 3 * area) {
    const int c = (int)i / area, at = (int)i % area;
    const float v = from[((long long)c * n.size + n.y + at / n.w) * n.size + n.x + at % n.w];
    crop[blockIdx.z * 3LL * area + i] = n.low == 0.0f && n.high == 1.0f ? v : v * (n.high - n.low) + n.low;
    return;
  }
  if (!n.remembers) return;
  i -= 3 * area;
  const int k = n.shrink, w = n.w / k, h = n.h / k;
  if (i < 3 * w * h) {
    past[blockIdx.z * 3LL * w * h + i] = row.kept ? ((const float*)row.kept)[i] : 0.0f;
    return;
  }
  i -= 3 * w * h;
  if (k > 1) {
    if (i < 3 * w * h) {
      const int c = (int)i / (w * h), at = (int)i % (w * h);
      const float* corner = from + ((long long)c * n.size + n.y + at / w * k) * n.size + n.x + at % w * k;
      float sum = 0.0f;
      for (int y = 0; y < k; ++y)
        for (int x = 0; x < k; ++x) sum += corner[(long long)y * n.size + x];
      shrunk[blockIdx.z * 3LL * w * h + i] = sum * (1.0f / (k * k));
      return;
    }
    i -= 3 * w * h;
  }
  if (i < n.state) {
    state[(long long)blockIdx.z * n.state + i] = row.state ? ((const float*)row.state)[i] : 0.0f;
    return;
  }
  if (i == n.state) known[blockIdx.z] = row.kept ? 1.0f : 0.0f;
}

static __device__ float answer(const Network& n, const float* out, const float* crop, int c, int x, int y) {
  const float v = out[((long long)c * n.h + y) * n.w + x];
  const float scaled = n.out_low == 0.0f && n.out_high == 1.0f ? v : (v - n.out_low) * (1.0f / (n.out_high - n.out_low));
  return clip(n.residual ? scaled + crop[((long long)c * n.size + n.y + y) * n.size + n.x + x] : scaled);
}

extern "C" __global__ void scatter(const Row* rows, const Network* network, const float* output, const float* kept,
                                   const float* shrunk, const float* state, const float* occlusion,
                                   const float* log_scale) {
  const Network n = *network;
  const Row row = rows[blockIdx.z];
  if (!row.crop) return;
  const float* crop = (const float*)row.crop;
  const float* out = output + blockIdx.z * 3LL * n.w * n.h;
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const long long whole = (long long)n.size * n.size;
  if (i < 3 * whole) {
    const int c = (int)(i / whole), at = (int)(i % whole), x = at % n.size - n.x, y = at / n.size - n.y;
    const bool inside = x >= 0 && y >= 0 && x < n.w && y < n.h;
    ((float*)row.restored)[i] = inside ? answer(n, out, crop, c, x, y) : crop[i];
    return;
  }
  if (!n.remembers) return;
  i -= 3 * whole;
  const int k = n.shrink, w = n.w / k, h = n.h / k;
  if (i < 3 * w * h) {
    float v;
    if (k > 1) {
      v = kept[blockIdx.z * 3LL * w * h + i];
      v = clip(n.residual ? v + shrunk[blockIdx.z * 3LL * w * h + i] : v);
    } else {
      v = answer(n, out, crop, (int)i / (w * h), (int)i % w, (int)i % (w * h) / w);
    }
    ((float*)row.kept_next)[i] = v;
    return;
  }
  i -= 3 * w * h;
  if (i < n.state) {
    ((float*)row.state_next)[i] = state[(long long)blockIdx.z * n.state + i];
    return;
  }
  i -= n.state;
  if (i < n.map) {
    ((float*)row.occlusion)[i] = occlusion[(long long)blockIdx.z * n.map + i];
    ((float*)row.log_scale)[i] = log_scale[(long long)blockIdx.z * n.map + i];
  }
}
