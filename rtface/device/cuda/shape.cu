// Shapes corrections on a GPU like rtface.correct.shape: measures an engine's answer and its crop for
// rtface.correct.controls, then applies the decisions.
//
// Threads are independent: no shared memory, barriers, atomics or headers, so the tests run this file on the host.
// blockIdx.z is the face; faces of size 0 are skipped, and a grid larger than a face is harmless. shaping.py builds the
// structs.

typedef unsigned long long u64;

enum { SHRINK = 4, ROWS = 16, CELLS = 64, GRID = 32, SHEET = 512, LINES = 64, TAPS = 13, MIDDLE = 16 };

struct ShapeFace {
    u64 r, c;                // float32 3 x size x size
    u64 correction, final;   // the results: float32 3 x size x size, and size x size
    u64 mask, occlusion;     // float32 mask_side x mask_side; rows x columns over the region, or 0
    u64 across, own, power, soft;  // scratch: size x size twice, then size/4 x size/4 twice; own and soft are kept
    u64 fine;                // kept too, size x size, in the memory of `across`
    u64 cells, crop_cells, samples, texture, change, irises, grain, middle, above, below, detail;  // the measures
    int size, step, side;    // side: samples per side
    int mask_side, rows, columns, region[4];
    int box[4], part[4];     // x0, y0, x1, y1
    int detail_box[4];       // where detail is scaled, whole cells; empty if nowhere
    int windows[2][4];       // of the irises; empty if there is none
    float eyes[2][3];        // x, y, 1/radius
    int wide, own_wide;      // taps to each side
    int first, lines;        // the middle rows of the part: the first, and their number
    int above_rows[MIDDLE], below_rows[MIDDLE];  // of the cells of power
    float taps[TAPS], own_taps[TAPS];  // of the Gaussians that the high-passes subtract, centre first
    int match, detail_step;  // detail_step: distance of measured samples
};

struct ShapeControl {
    u64 sheet;  // float32 512 x 512, or 0
    float excess[3][GRID * GRID];
    float gate[CELLS * CELLS], detail[CELLS * CELLS];
    float colours[2][3];
    float own, deviation, made, strength;
    int sheet_x, sheet_y, gated;
};

struct ShapeSmall {
    u64 c, to;  // float32 3 x size x size; its averages of 4 x 4, 3 x n x n, then every 16th row of its green
    int size, unused;
};

struct ShapeAverage {
    u64 r, mean;     // float32 3 x size x size: the answer, which becomes the average; the average before
    u64 flow, gate;  // float32 2 x rows x columns, or 0 without motion; rows x columns
    int size, x, y, columns, rows, cubic;  // x, y: their position in the crop, at SHRINK samples for each of theirs
};

__device__ __forceinline__ int column() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int line() { return blockIdx.y * blockDim.y + threadIdx.y; }

__device__ __forceinline__ int limit(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

__device__ __forceinline__ bool within(const int* box, int x, int y) {
    return x >= box[0] && x < box[2] && y >= box[1] && y < box[3];
}

struct Picture {
    const float* at;
    int size;
    __device__ Picture(u64 address, int side) : at((const float*)address), size(side) {}
    __device__ float operator()(int plane, int x, int y) const { return at[(plane * size + y) * size + x]; }
    __device__ float luma(int x, int y) const {
        const Picture& p = *this;
        return p(2, x, y) * 0.114f + (p(0, x, y) * 0.299f + p(1, x, y) * 0.587f);
    }
};

struct Change {
    Picture r, c;
    __device__ explicit Change(const ShapeFace& face) : r(face.r, face.size), c(face.c, face.size) {}
    __device__ float operator()(int plane, int x, int y) const { return r(plane, x, y) - c(plane, x, y); }
    __device__ float luma(int x, int y) const {
        const Change& d = *this;
        return d(2, x, y) * 0.114f + (d(0, x, y) * 0.299f + d(1, x, y) * 0.587f);
    }
};

// Averages at(x, y) over cell i, j of a division of width x height samples into columns x rows.
template <typename At>
__device__ float average(const At& at, int i, int j, int columns, int rows, int width, int height) {
    float sx = (float)width / columns, sy = (float)height / rows;
    float left = i * sx, right = fminf(left + sx, (float)width), top = j * sy, bottom = fminf(top + sy, (float)height);
    int x1 = limit((int)ceilf(right), 0, width), y1 = limit((int)ceilf(bottom), 0, height);
    float total = 0.0f;
    for (int y = (int)top; y < y1; ++y) {
        float row = 0.0f;
        for (int x = (int)left; x < x1; ++x)
            row += at(x, y) * (fminf(x + 1.0f, right) - fmaxf((float)x, left));
        total += row * (fminf(y + 1.0f, bottom) - fmaxf((float)y, top));
    }
    return total / ((right - left) * (bottom - top));
}

// The two of n samples, spread over `size`, around sample x, and the distance from the first.
struct Between {
    int a, b;
    float t;
    __device__ Between(int x, int size, int n) {
        float at = (x + 0.5f) * ((float)n / size) - 0.5f, low = floorf(at);
        a = limit((int)low, 0, n - 1), b = limit((int)low + 1, 0, n - 1), t = at - low;
    }
};

__device__ __forceinline__ float bilinear(const float* at, int pitch, const Between& x, const Between& y) {
    const float *upper = at + y.a * pitch, *lower = at + y.b * pitch;
    float p = upper[x.a] + (upper[x.b] - upper[x.a]) * x.t, q = lower[x.a] + (lower[x.b] - lower[x.a]) * x.t;
    return p + (q - p) * y.t;
}

// The luma of 3 x 64 x 64 cells, enlarged.
__device__ float luma_of_cells(u64 cells, int x, int y, int size) {
    const float* at = (const float*)cells;
    Between u(x, size, CELLS), v(y, size, CELLS);
    return bilinear(at + 2 * CELLS * CELLS, CELLS, u, v) * 0.114f +
           (bilinear(at, CELLS, u, v) * 0.299f + bilinear(at + CELLS * CELLS, CELLS, u, v) * 0.587f);
}

// Applies a Gaussian along one direction to at(0), whose neighbours are at(-1), at(1), ...
template <typename At> __device__ float gaussian(const At& at, const float* taps, int wide) {
    float total = at(0) * taps[0];
    for (int k = 1; k <= wide; ++k) total += (at(-k) + at(k)) * taps[k];
    return total;
}

// ---- measure

// 64 x 192 threads: the averages of the three planes of d; and those of c.
extern "C" __global__ void shape_cells(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    int i = column(), plane = line() / CELLS, j = line() % CELLS, size = face.size;
    if (!size || i >= CELLS || plane >= 3) return;
    Change d(face);
    ((float*)face.cells)[(plane * CELLS + j) * CELLS + i] =
        average([&](int x, int y) { return d(plane, x, y); }, i, j, CELLS, CELLS, size, size);
    ((float*)face.crop_cells)[(plane * CELLS + j) * CELLS + i] =
        average([&](int x, int y) { return d.c(plane, x, y); }, i, j, CELLS, CELLS, size, size);
}

// side x side threads: c and the textures at every step-th sample.
extern "C" __global__ void shape_samples(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    int i = column(), j = line(), side = face.side, size = face.size;
    if (!size || i >= side || j >= side) return;
    Change d(face);
    int x = i * face.step, y = j * face.step, at = j * side + i;
    for (int plane = 0; plane < 3; ++plane) ((float*)face.samples)[plane * side * side + at] = d.c(plane, x, y);
    if (!face.match) return;
    ((float*)face.texture)[at] = d.c.luma(x, y) -
        gaussian([&](int k) { return d.c.luma(limit(x + k, 0, size - 1), y); }, face.taps, face.wide);
    const int* part = face.part;
    ((float*)face.change)[at] = within(part, x, y) ? d.luma(x, y) -
        gaussian([&](int k) { return d.luma(limit(x + k, part[0], part[2] - 1), y); }, face.taps, face.wide) : 0.0f;
}

// 64 x 2 threads: weighted sums of c and d over rows of each iris, and of the weights.
extern "C" __global__ void shape_irises(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    int i = column(), eye = line();
    if (!face.size || i >= LINES || eye >= 2) return;
    Change d(face);
    const int* window = face.windows[eye];
    const float* middle = face.eyes[eye];
    float sums[7] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    for (int y = window[1] + i; y < window[3]; y += LINES) {
        float v = (y + 0.5f - middle[1]) * middle[2];
        for (int x = window[0]; x < window[2]; ++x) {
            float u = (x + 0.5f - middle[0]) * middle[2], share = fmaxf(1.0f - (u * u + v * v), 1e-6f);
            for (int plane = 0; plane < 3; ++plane) {
                sums[plane] += d.c(plane, x, y) * share;
                sums[plane + 3] += d(plane, x, y) * share;
            }
            sums[6] += share;
        }
    }
    for (int k = 0; k < 7; ++k) ((float*)face.irises)[(eye * LINES + i) * 7 + k] = sums[k];
}

// A thread for each sample of the part: the luma of c blurred along its row.
extern "C" __global__ void shape_rows(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    const int* part = face.part;
    int x = part[0] + column(), y = part[1] + line();
    if (!face.size || !face.match || !within(part, x, y)) return;
    Picture c(face.c, face.size);
    ((float*)face.across)[y * face.size + x] =
        gaussian([&](int k) { return c.luma(limit(x + k, part[0], part[2] - 1), y); }, face.own_taps, face.own_wide);
}

// The same along the columns, subtracted from the luma: the crop's grain.
extern "C" __global__ void shape_columns(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    const int* part = face.part;
    int x = part[0] + column(), y = part[1] + line(), size = face.size;
    if (!size || !face.match || !within(part, x, y)) return;
    Picture c(face.c, size);
    const float* across = (const float*)face.across;
    ((float*)face.own)[y * size + x] = c.luma(x, y) -
        gaussian([&](int k) { return across[limit(y + k, part[1], part[3] - 1) * size + x]; }, face.own_taps,
                 face.own_wide);
}

__device__ __forceinline__ int quarter(int side) { return side < 8 ? 1 : side / 4; }

// A thread for each cell of about 4 x 4 samples of the part: the power of that grain.
extern "C" __global__ void shape_power(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    const int* part = face.part;
    int i = column(), j = line(), size = face.size, width = part[2] - part[0], height = part[3] - part[1];
    int columns = quarter(width), rows = quarter(height);
    if (!size || !face.match || i >= columns || j >= rows) return;
    const float* own = (const float*)face.own + part[1] * size + part[0];
    ((float*)face.power)[j * (size / 4) + i] = average([&](int x, int y) { return own[y * size + x] * own[y * size + x]; },
                                                       i, j, columns, rows, width, height);
}

// Averages 3 x 3 of those cells, mirrored at the part's edge.
extern "C" __global__ void shape_soften(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    const int* part = face.part;
    int i = column(), j = line(), pitch = face.size / 4;
    int columns = quarter(part[2] - part[0]), rows = quarter(part[3] - part[1]);
    if (!face.size || !face.match || i >= columns || j >= rows) return;
    const float* power = (const float*)face.power;
    float total = 0.0f;
    for (int v = j - 1; v <= j + 1; ++v) {
        int y = limit(v < 0 ? -v : v >= rows ? 2 * rows - 2 - v : v, 0, rows - 1);
        for (int u = i - 1; u <= i + 1; ++u)
            total += power[y * pitch + limit(u < 0 ? -u : u >= columns ? 2 * columns - 2 - u : u, 0, columns - 1)];
    }
    ((float*)face.soft)[j * pitch + i] = total * (1.0f / 9.0f);
}

// size x (side + 48) threads: that grain at every step-th sample, in the middle rows, and its power next to those.
extern "C" __global__ void shape_pick(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    int i = column(), j = line(), size = face.size, side = face.side, pitch = size / 4;
    const int* part = face.part;
    int width = part[2] - part[0];
    if (!size || !face.match) return;
    const float *own = (const float*)face.own, *soft = (const float*)face.soft;
    if (j < side) {
        int x = i * face.step, y = j * face.step;
        if (i < side) ((float*)face.grain)[j * side + i] = within(part, x, y) ? own[y * size + x] : 0.0f;
        return;
    }
    j -= side;
    int k = j % MIDDLE;
    if (k >= face.lines) return;
    if (j < MIDDLE) {
        if (i < width)
            ((float*)face.middle)[j * size + i] = own[(part[1] + face.first + 4 * j) * size + part[0] + i];
    } else if (j < 3 * MIDDLE && i < quarter(width)) {
        int row = j < 2 * MIDDLE ? face.above_rows[k] : face.below_rows[k];
        ((float*)(j < 2 * MIDDLE ? face.above : face.below))[k * pitch + i] = soft[row * pitch + i];
    }
}

// A thread for each sample of the detail's box: the fine part of the luma of d. After shape_cells and shape_columns.
extern "C" __global__ void shape_fine(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    const int* box = face.detail_box;
    int x = box[0] + column(), y = box[1] + line(), size = face.size;
    if (!size || !within(box, x, y)) return;
    Change d(face);
    // Sigma 1.3, below 384 samples 0.65 (`detail.smoothing`). With a constant reach the taps stay in registers.
    const bool large = size >= 384;
    const float taps[3] = {large ? 0.32255587f : 0.620173514f, large ? 0.239947081f : 0.189913243f,
                           large ? 0.0987749845f : 0.0f};
    auto along = [&](int k) {
        int row = limit(y + k, box[1], box[3] - 1);
        return gaussian([&](int i) { return d.luma(limit(x + i, box[0], box[2] - 1), row); }, taps, 2);
    };
    ((float*)face.fine)[y * size + x] = gaussian(along, taps, 2) - luma_of_cells(face.cells, x, y, size);
}

// 64 x 128 threads: the averages over cells of h b, h the fine part of the luma of c, and of b b; 0 outside the box.
extern "C" __global__ void shape_detail(const ShapeFace* __restrict__ faces) {
    const ShapeFace& face = faces[blockIdx.z];
    const int* box = face.detail_box;
    int i = column(), j = line() % CELLS, other = line() / CELLS, size = face.size, step = face.detail_step;
    if (!size || i >= CELLS || other >= 2 || box[0] >= box[2]) return;
    int cells[4];
    for (int k = 0; k < 4; ++k) cells[k] = box[k] * CELLS / size;
    Picture c(face.c, size);
    const float* fine = (const float*)face.fine;
    float mean = 0.0f;
    if (within(cells, i, j))
        mean = average([&](int u, int v) {
            int x = box[0] + u * step, y = box[1] + v * step;
            float b = fine[y * size + x];
            return b * (other ? b : c.luma(x, y) - luma_of_cells(face.crop_cells, x, y, size));
        }, i - cells[0], j - cells[1], cells[2] - cells[0], cells[3] - cells[1],
           (box[2] - box[0] + step - 1) / step, (box[3] - box[1] + step - 1) / step);
    ((float*)face.detail)[(other * CELLS + j) * CELLS + i] = mean;
}

// ---- apply

__device__ __forceinline__ float grainy(float power, float scale) {
    float ratio = power * scale;
    return 1.0f / (ratio * ratio + 1.0f);
}

__device__ float grain_at(const ShapeFace& face, const ShapeControl& how, int x, int y) {
    const int* part = face.part;
    int u = x - part[0], v = y - part[1], pitch = face.size / 4;
    float out = 0.0f;
    if (how.own != 0.0f) {
        int width = part[2] - part[0], height = part[3] - part[1];
        Between a(u, width, quarter(width)), b(v, height, quarter(height));
        const float* soft = (const float*)face.soft;
        float scale = 1.0f / (2.5f * how.deviation * how.deviation);
        float weights[4] = {grainy(soft[b.a * pitch + a.a], scale), grainy(soft[b.a * pitch + a.b], scale),
                            grainy(soft[b.b * pitch + a.a], scale), grainy(soft[b.b * pitch + a.b], scale)};
        float upper = weights[0] + (weights[1] - weights[0]) * a.t, lower = weights[2] + (weights[3] - weights[2]) * a.t;
        float most = fabsf(how.own) * 4.0f * how.deviation;
        float grain = ((const float*)face.own)[y * face.size + x] * (upper + (lower - upper) * b.t) * how.own;
        out = fminf(fmaxf(grain, -most), most);
    }
    if (how.made != 0.0f) {
        const float* sheet = (const float*)how.sheet;
        out += sheet[((how.sheet_y + v) & (SHEET - 1)) * SHEET + ((how.sheet_x + u) & (SHEET - 1))] * how.made;
    }
    return out;
}

// A thread for each sample of the crop.
extern "C" __global__ void shape_apply(const ShapeFace* __restrict__ faces,
                                       const ShapeControl* __restrict__ controls) {
    const ShapeFace& face = faces[blockIdx.z];
    const ShapeControl& how = controls[blockIdx.z];
    int x = column(), y = line(), size = face.size;
    if (x >= size || y >= size) return;
    float *out = (float*)face.correction + y * size + x, mask = 0.0f, d[3] = {0.0f, 0.0f, 0.0f};
    if (within(face.box, x, y)) {
        Change change(face);
        Between u(x, size, GRID), v(y, size, GRID);
        for (int plane = 0; plane < 3; ++plane) d[plane] = change(plane, x, y) - bilinear(how.excess[plane], GRID, u, v);
        for (int eye = 0; eye < 2; ++eye) {
            if (!within(face.windows[eye], x, y)) continue;
            const float* middle = face.eyes[eye];
            float a = (x + 0.5f - middle[0]) * middle[2], b = (y + 0.5f - middle[1]) * middle[2];
            float fall = fminf(fmaxf((1.9f - sqrtf(a * a + b * b)) / 0.9f, 0.0f), 1.0f);
            fall = fall * fall * (3.0f - 2.0f * fall);
            for (int plane = 0; plane < 3; ++plane) d[plane] += fall * how.colours[eye][plane];
        }
        Between s(x, size, CELLS), t(y, size, CELLS);
        float added = grain_at(face, how, x, y);
        if (within(face.detail_box, x, y))
            added += bilinear(how.detail, CELLS, s, t) * ((const float*)face.fine)[y * size + x];
        mask = bilinear((const float*)face.mask, face.mask_side, Between(x, size, face.mask_side),
                        Between(y, size, face.mask_side));
        if (how.gated) mask *= bilinear(how.gate, CELLS, s, t);
        int a = x - face.region[0], b = y - face.region[1];
        if (face.occlusion && a >= 0 && b >= 0 && a < face.region[2] && b < face.region[3]) {
            float hidden = bilinear((const float*)face.occlusion, face.columns, Between(a, face.region[2], face.columns),
                                    Between(b, face.region[3], face.rows));
            mask *= 1.0f - fminf(fmaxf(hidden, 0.0f), 1.0f);
        }
        for (int plane = 0; plane < 3; ++plane) d[plane] = (d[plane] + added) * mask * how.strength;
    }
    ((float*)face.final)[y * size + x] = mask;
    for (int plane = 0; plane < 3; ++plane) out[plane * size * size] = d[plane];
}

// ---- the average over time (rtface.correct.temporal)

// n x (3n + m) threads: a thread for each average of 4 x 4 samples; then one for each 4 samples of the m rows of green.
extern "C" __global__ void shape_small(const ShapeSmall* __restrict__ faces) {
    const ShapeSmall& face = faces[blockIdx.z];
    int i = column(), line_at = line(), size = face.size, n = size / SHRINK, more = line_at - 3 * n;
    if (i >= n || more * ROWS >= size) return;
    Picture c(face.c, size);
    float* to = (float*)face.to;
    if (more >= 0) {
        for (int x = i * SHRINK; x < (i + 1) * SHRINK; ++x) to[3 * n * n + more * size + x] = c(1, x, more * ROWS);
        return;
    }
    int plane = line_at / n, j = line_at % n;
    float total = 0.0f;
    for (int y = j * SHRINK; y < (j + 1) * SHRINK; ++y) {
        int x = i * SHRINK;
        total += c(plane, x, y) + c(plane, x + 1, y) + c(plane, x + 2, y) + c(plane, x + 3, y);
    }
    to[line_at * n + i] = total / (SHRINK * SHRINK);
}

// Weights of four samples, the second at distance t before the requested position (Keys 1981, a = -0.75).
__device__ __forceinline__ void cubic(float t, float (&weights)[4]) {
    const float a = -0.75f;
    weights[0] = ((a * (t + 1.0f) - 5.0f * a) * (t + 1.0f) + 8.0f * a) * (t + 1.0f) - 4.0f * a;
    weights[1] = ((a + 2.0f) * t - (a + 3.0f)) * t * t + 1.0f;
    weights[2] = ((a + 2.0f) * (1.0f - t) - (a + 3.0f)) * (1.0f - t) * (1.0f - t) + 1.0f;
    weights[3] = 1.0f - weights[0] - weights[1] - weights[2];
}

// r <- r + (average - r) * gate at x, y; the average is interpolated from N x N samples at left, top.
template <int N> __device__ __forceinline__ void mix(const ShapeAverage& face, int x, int y, int left, int top,
                                                     const float (&wide)[N], const float (&high)[N], float gate) {
    int size = face.size;
    Picture mean(face.mean, size);
    for (int plane = 0; plane < 3; ++plane) {
        float old = 0.0f;
#pragma unroll
        for (int k = 0; k < N; ++k) {
            float row = 0.0f;
#pragma unroll
            for (int i = 0; i < N; ++i)
                row += mean(plane, limit(left + i, 0, size - 1), limit(top + k, 0, size - 1)) * wide[i];
            old += row * high[k];
        }
        float* r = (float*)face.r + (plane * size + y) * size + x;
        *r += (old - *r) * gate;
    }
}

// A thread for each sample of the part; the average is read at its earlier position according to the flow.
extern "C" __global__ void shape_average(const ShapeAverage* __restrict__ faces) {
    const ShapeAverage& face = faces[blockIdx.z];
    int u = column(), v = line(), columns = face.columns, rows = face.rows;
    if (u >= columns * SHRINK || v >= rows * SHRINK) return;
    Between a(u, columns * SHRINK, columns), b(v, rows * SHRINK, rows);
    float gate = bilinear((const float*)face.gate, columns, a, b);
    if (gate == 0.0f) return;
    int x = face.x + u, y = face.y + v;
    if (!face.flow) {
        mix<1>(face, x, y, x, y, {1.0f}, {1.0f}, gate);
        return;
    }
    const float* flow = (const float*)face.flow;
    float most = 2.0f * face.size;  // limits positions far outside: no integer overflow
    float to_x = fminf(fmaxf(bilinear(flow, columns, a, b) * SHRINK + x, -most), most);
    float to_y = fminf(fmaxf(bilinear(flow + columns * rows, columns, a, b) * SHRINK + y, -most), most);
    float left = floorf(to_x), top = floorf(to_y), s = to_x - left, t = to_y - top;
    if (face.cubic) {
        float wide[4], high[4];
        cubic(s, wide), cubic(t, high);
        mix<4>(face, x, y, (int)left - 1, (int)top - 1, wide, high, gate);
    } else {
        mix<2>(face, x, y, (int)left, (int)top, {1.0f - s, s}, {1.0f - t, t}, gate);
    }
}
