// The frame path on a GPU: cuts crops from native planes and adds corrections, with the same samples as device/cpu.
//
// Threads are independent: no shared memory, barriers, atomics or headers, so the tests run this file on the host. A
// kernel takes the address of one descriptor that kernels.py builds; a grid larger than the descriptor's counts is
// harmless. Coordinates are relative to sample centres (the first sample is 0, 0), as in cv2's warps.
//
// Each operation rounds like OpenCV: fmaf where its warps fuse, plain products elsewhere (compile without contraction),
// 8-bit intermediates where it keeps 8 bits.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

__device__ __forceinline__ int clamp(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

__device__ __forceinline__ float clip(float value, float low, float high) {
    return fminf(fmaxf(value, low), high);
}

__device__ __forceinline__ float lerp(float from, float to, float at) { return fmaf(at, to - from, from); }

__device__ __forceinline__ int column() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int line() { return blockIdx.y * blockDim.y + threadIdx.y; }

template <typename T> __device__ __forceinline__ const T* behind(const void* head, i64 bytes) {
    return (const T*)((const u8*)head + bytes);
}

// ---- crop

// Components on one grid, and the map from crop pixels (half: from pixels of a half-size crop) to it.
struct Source {
    u64 at[3];          // first sample in memory
    int pitch, step;    // bytes, words
    int word, shift;    // 1: uint8, 2: uint16, 4: float32; left shift of the value in bits
    int width, height;  // samples in memory; outside, the edge repeats
    int half;
    int inside;         // no crop pixel needs samples outside
    float m[6];
};

struct CropFace {
    Source first, second;  // y and u, v; or r, g, b and nothing
    u64 pixels, native;    // float32 3 x size x size; native may be 0
};

// Followed by `count` CropFace.
struct CropJob {
    int count, size, kind, entries;  // kind 0: yuv, 1: rgb, 2: gray; entries of the table, 0 without a curve
    u64 table;
    int wide, unused;
    float rows[3][4];  // factors of the components' code values, and a constant
    float gamut[9];
    float pad;
};

template <typename Word> __device__ __forceinline__ float sample(const u8* base, u32 offset, int shift) {
    Word word = *(const Word*)(base + offset);
    return sizeof(Word) == 2 ? (float)((int)word >> shift) : (float)word;
}

template <typename Word, bool INSIDE, int N>
__device__ __forceinline__ void bilinear(const Source& s, int px, int py, float* out) {
    float x = (float)px, y = (float)py;
    float sx = fmaf(s.m[0], x, y * s.m[1] + s.m[2]), sy = fmaf(s.m[3], x, y * s.m[4] + s.m[5]);
    int x0 = (int)floorf(sx), y0 = (int)floorf(sy), step = s.step * (int)sizeof(Word);
    float ax = sx - (float)x0, ay = sy - (float)y0;
    u32 at = y0 * s.pitch + x0 * step, right = step, below = s.pitch;
    if (!INSIDE) {
        int x1 = clamp(x0 + 1, 0, s.width - 1), y1 = clamp(y0 + 1, 0, s.height - 1);
        x0 = clamp(x0, 0, s.width - 1), y0 = clamp(y0, 0, s.height - 1);
        at = y0 * s.pitch + x0 * step, right = (x1 - x0) * step, below = (y1 - y0) * s.pitch;
    }
#pragma unroll
    for (int n = 0; n < N; ++n) {
        const u8* base = (const u8*)s.at[n];
        float p = sample<Word>(base, at, s.shift), q = sample<Word>(base + right, at, s.shift);
        float r = sample<Word>(base + below, at, s.shift), t = sample<Word>(base + below + right, at, s.shift);
        out[n] = lerp(lerp(p, q, ax), lerp(r, t, ax), ay);
    }
}

// A thread computes COLUMNS x ROWS pixels of a crop, from an even column and an odd row: they share samples of halved
// chroma.
enum { COLUMNS = 2, ROWS = 4 };

// cv2.warpAffine's result: integers for 8 bits.
template <typename Word> struct Warped {
    typedef float Type;
    static __device__ __forceinline__ float of(float value) { return value; }
};
template <> struct Warped<u8> {
    typedef int Type;
    static __device__ __forceinline__ int of(float value) { return (int)rintf(value); }
};

// Interpolates two samples of halved chroma, 3/4 of the nearer one; cv2.resize keeps few bits between its two passes.
__device__ __forceinline__ float across(float far, float near) { return far * 0.25f + near * 0.75f; }
__device__ __forceinline__ float down(float far, float near) { return across(far, near); }
__device__ __forceinline__ int across(int far, int near) { return far + 3 * near; }
__device__ __forceinline__ float down(int far, int near) { return (float)(((far >> 2) + (3 * near >> 2) + 2) >> 2); }

template <typename Word, bool INSIDE, int N>
__device__ __forceinline__ void patch_of(const Source& s, int size, int x, int y, float (*out)[COLUMNS][3]) {
    typedef typename Warped<Word>::Type Value;
    if (!s.half) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) {
                float* to = out[r][c];
                bilinear<Word, INSIDE, N>(s, clamp(x + c, 0, size - 1), clamp(y + r, 0, size - 1), to);
                for (int n = 0; n < N; ++n) to[n] = (float)Warped<Word>::of(to[n]);
            }
        return;
    }
    int last = size / 2 - 1, i = x >> 1, j = (y + 1) >> 1;
    Value lines[ROWS / 2 + 1][COLUMNS][N];
#pragma unroll
    for (int r = 0; r <= ROWS / 2; ++r) {
        float left[N], middle[N], right[N];
        int row = clamp(j - 1 + r, 0, last);
        bilinear<Word, INSIDE, N>(s, clamp(i - 1, 0, last), row, left);
        bilinear<Word, INSIDE, N>(s, i, row, middle);
        bilinear<Word, INSIDE, N>(s, clamp(i + 1, 0, last), row, right);
#pragma unroll
        for (int n = 0; n < N; ++n) {
            Value near = Warped<Word>::of(middle[n]);
            lines[r][0][n] = across(Warped<Word>::of(left[n]), near);
            lines[r][1][n] = across(Warped<Word>::of(right[n]), near);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c)
#pragma unroll
            for (int n = 0; n < N; ++n)
                out[r][c][n] = down(lines[r / 2 + 1 - (r & 1)][c][n], lines[r / 2 + (r & 1)][c][n]);
}

template <int N>
__device__ __forceinline__ void pixels_of(const Source& s, int size, int x, int y, float (*out)[COLUMNS][3]) {
    if (s.word == 1) {
        if (s.inside) patch_of<u8, true, N>(s, size, x, y, out);
        else patch_of<u8, false, N>(s, size, x, y, out);
    } else if (s.word == 2) {
        if (s.inside) patch_of<u16, true, N>(s, size, x, y, out);
        else patch_of<u16, false, N>(s, size, x, y, out);
    } else {
        patch_of<float, false, N>(s, size, x, y, out);
    }
}

__device__ __forceinline__ float look_up(const float* table, int entries, float value) {
    float at = value * (float)(entries - 1), low = floorf(at);
    int i = (int)clip(low, -1.0f, (float)entries);
    float a = table[clamp(i, 0, entries - 1)], b = table[clamp(i + 1, 0, entries - 1)];
    return lerp(a, b, at - low);
}

__device__ __forceinline__ void turn(const float* m, const float* from, float* to) {
#pragma unroll
    for (int k = 0; k < 3; ++k) to[k] = m[3 * k] * from[0] + m[3 * k + 1] * from[1] + m[3 * k + 2] * from[2];
}

__device__ __forceinline__ void curve(const CropJob* __restrict__ job, float* rgb) {
    if (job->entries)
        for (int k = 0; k < 3; ++k) rgb[k] = look_up((const float*)job->table, job->entries, rgb[k]);
    float seen[3] = {rgb[0], rgb[1], rgb[2]};
    if (job->wide) turn(job->gamut, seen, rgb);
}

struct alignas(8) Pair {
    float left, right;
};

// Two adjacent pixels at `place` of a crop; one access if every row of the crop is aligned for it.
__device__ __forceinline__ void put_two(u64 crop, int size, int x, int y, float (*rgb)[3]) {
    float* to = (float*)crop + ((i64)y * size + x);
    i64 plane = (i64)size * size;
#pragma unroll
    for (int k = 0; k < 3; ++k, to += plane) {
        float left = clip(rgb[0][k], 0.0f, 1.0f), right = clip(rgb[1][k], 0.0f, 1.0f);
        if (!(size & 1)) {
            *(Pair*)to = {left, right};
        } else {
            to[0] = left;
            if (x + 1 < size) to[1] = right;
        }
    }
}

// blockIdx.z counts faces.
extern "C" __global__ void crop(const CropJob* __restrict__ job) {
    int size = job->size, x = column() * COLUMNS, y = line() * ROWS - 1;
    if ((int)blockIdx.z >= job->count || x >= size || y >= size) return;
    const CropFace& face = behind<CropFace>(job, sizeof(CropJob))[blockIdx.z];
    float got[ROWS][COLUMNS][3], more[ROWS][COLUMNS][3];
    if (job->kind == 1) {
        pixels_of<3>(face.first, size, x, y, got);
    } else {
        pixels_of<1>(face.first, size, x, y, got);
        if (job->kind == 0) pixels_of<2>(face.second, size, x, y, more);
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        if (y + r < 0 || y + r >= size) continue;
        float rgb[COLUMNS][3];
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c)
#pragma unroll
            for (int k = 0; k < 3; ++k) {
                const float* row = job->rows[k];
                float value = fmaf(job->kind == 1 ? got[r][c][k] : got[r][c][0], row[0], row[3]);
                rgb[c][k] = job->kind == 0 ? fmaf(more[r][c][1], row[2], fmaf(more[r][c][0], row[1], value)) : value;
            }
        if (face.native) put_two(face.native, size, x, y + r, rgb);
        if (job->entries || job->wide) {
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) curve(job, rgb[c]);
        }
        put_two(face.pixels, size, x, y + r, rgb);
    }
}

// ---- a crop for a tracker

struct SeenJob {
    int count, size;    // 1; of the crop
    u64 pixels, to;     // float32 3 x size x size; uint8 height x width x 3
    int width, height;
    float m[6];         // from pixels to display space
    float low[2], high[2];  // bounds of the frame there
    u64 input;          // of a network, float32, 3 planes or 3 values per pixel; 0 if none
    int planar, bgr;
    float divisor;      // of the byte values
    int unused;
};

// Writes the upper left of a crop as bytes, black outside the frame, and optionally to a network's input.
extern "C" __global__ void seen(const SeenJob* __restrict__ job) {
    int x = column(), y = line();
    if (x >= job->width || y >= job->height || blockIdx.z > 0) return;
    const float* m = job->m;
    float px = (float)x, py = (float)y;
    float at_x = fmaf(m[0], px, fmaf(m[1], py, m[2])), at_y = fmaf(m[3], px, fmaf(m[4], py, m[5]));
    bool inside = at_x >= job->low[0] && at_x <= job->high[0] && at_y >= job->low[1] && at_y <= job->high[1];
    const float* from = (const float*)job->pixels + ((i64)y * job->size + x);
    u8* to = (u8*)job->to + ((i64)y * job->width + x) * 3;
    i64 plane = (i64)job->size * job->size;
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        to[k] = inside ? (u8)rintf(from[k * plane] * 255.0f) : (u8)0;
        if (!job->input) continue;
        int channel = job->bgr ? 2 - k : k;
        i64 at = (i64)y * job->width + x;
        ((float*)job->input)[job->planar ? (i64)channel * job->width * job->height + at : 3 * at + channel]
            = (float)to[k] / job->divisor;
    }
}

// ---- low-pass: whole factors by averaging, then a small Gaussian

struct Filter {
    u64 from, to;
    i64 plane;          // bytes between channels
    int pitch, step;    // bytes, words
    int word, shift;    // as in Source
    int width, height;  // of `from`; outside, zeros if `zeros`, else the edge repeats
    int zeros, channels;
    float weights[3];   // area: weights of the sum, if there are 3 channels
    int nx, ny;
    int to_pitch, to_width, to_height;  // bytes, samples; uint8 if `from` is, else float32
    float kx[5], ky[5];
    int unused;
};

// Followed by `count` Filter.
struct FilterJob {
    int count, unused;
};

__device__ __forceinline__ void put(const Filter& f, int x, int y, float value) {
    u8* row = (u8*)f.to + (i64)y * f.to_pitch;
    if (f.word == 1) row[x] = (u8)value;
    else ((float*)row)[x] = value;
}

template <typename Word> __device__ __forceinline__ float sum_of(const Filter& f, u64 from, int x, int y) {
    float sum = 0.0f;
    for (int j = y; j < y + f.ny; ++j) {
        if (f.zeros && j >= f.height) break;
        const Word* row = behind<Word>((const void*)from, (i64)(j < f.height ? j : f.height - 1) * f.pitch);
        for (int i = x; i < x + f.nx; ++i) {
            if (f.zeros && i >= f.width) break;
            Word value = row[(i < f.width ? i : f.width - 1) * f.step];
            sum += sizeof(Word) == 2 ? (float)((int)value >> f.shift) : (float)value;
        }
    }
    return sum;
}

// Averages nx x ny samples; also mixes three channels to one component.
extern "C" __global__ void area(const FilterJob* __restrict__ job) {
    int x = column(), y = line();
    if ((int)blockIdx.z >= job->count) return;
    const Filter& f = behind<Filter>(job, sizeof(FilterJob))[blockIdx.z];
    if (x >= f.to_width || y >= f.to_height) return;
    int x0 = x * f.nx, y0 = y * f.ny;
    float sum;
    if (f.word == 1) sum = sum_of<u8>(f, f.from, x0, y0);
    else if (f.word == 2) sum = sum_of<u16>(f, f.from, x0, y0);
    else if (f.channels == 1) sum = sum_of<float>(f, f.from, x0, y0);
    else
        sum = sum_of<float>(f, f.from, x0, y0) * f.weights[0] +
              sum_of<float>(f, f.from + f.plane, x0, y0) * f.weights[1] +
              sum_of<float>(f, f.from + 2 * f.plane, x0, y0) * f.weights[2];
    float mean = sum * (1.0f / (float)(f.nx * f.ny));
    if (f.word == 1) mean = f.nx == 2 && f.ny == 2 ? floorf(mean + 0.5f) : rintf(mean);
    put(f, x, y, mean);
}

template <typename Word> __device__ __forceinline__ float blurred(const Filter& f, int x, int y) {
    int left[5];
    float wx[5], sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 5; ++i) {
        int at = clamp(x + i - 2, 0, f.width - 1);
        left[i] = at * f.step, wx[i] = f.zeros && at != x + i - 2 ? 0.0f : f.kx[i];
    }
#pragma unroll
    for (int j = 0; j < 5; ++j) {
        int at = clamp(y + j - 2, 0, f.height - 1);
        if (f.ky[j] == 0.0f || (f.zeros && at != y + j - 2)) continue;
        const Word* line = behind<Word>((const void*)f.from, (i64)at * f.pitch);
        float row = 0.0f;
#pragma unroll
        for (int i = 0; i < 5; ++i) {
            if (wx[i] == 0.0f) continue;
            Word value = line[left[i]];
            row += wx[i] * (sizeof(Word) == 2 ? (float)((int)value >> f.shift) : (float)value);
        }
        sum += f.ky[j] * row;
    }
    return sum;
}

extern "C" __global__ void blur(const FilterJob* __restrict__ job) {
    int x = column(), y = line();
    if ((int)blockIdx.z >= job->count) return;
    const Filter& f = behind<Filter>(job, sizeof(FilterJob))[blockIdx.z];
    if (x >= f.to_width || y >= f.to_height) return;
    if (f.word == 1) put(f, x, y, floorf(blurred<u8>(f, x, y) + 0.5f));
    else put(f, x, y, f.word == 2 ? blurred<u16>(f, x, y) : blurred<float>(f, x, y));
}

// ---- inverse curve for corrections

struct UncurveFace {
    u64 from, native, to;  // float32 3 x size x size; `to` may be `from`
    int size, unused;
};

// Followed by `count` UncurveFace.
struct UncurveJob {
    int count, entries;
    u64 table;  // of the inverse slope
    int wide;
    float gamut[9];  // inverted
};

extern "C" __global__ void uncurve(const UncurveJob* __restrict__ job) {
    int x = column(), y = line();
    if ((int)blockIdx.z >= job->count) return;
    const UncurveFace& face = behind<UncurveFace>(job, sizeof(UncurveJob))[blockIdx.z];
    if (x >= face.size || y >= face.size) return;
    i64 plane = (i64)face.size * face.size, at = (i64)y * face.size + x;
    float d[3], out[3];
    for (int k = 0; k < 3; ++k) out[k] = d[k] = ((const float*)face.from)[k * plane + at];
    if (job->wide) turn(job->gamut, d, out);
    for (int k = 0; k < 3; ++k) {
        float slope = 1.0f;
        if (job->entries)
            slope = look_up((const float*)job->table, job->entries, ((const float*)face.native)[k * plane + at]);
        ((float*)face.to)[k * plane + at] = out[k] * slope;
    }
}

// ---- check for gray chroma, within one 8-bit code

enum { TINT_ROWS = 8 };  // per thread

struct Tint {
    u64 at[2];          // first samples of u and v
    int pitch, step;    // bytes, words
    int word, shift;    // as in Source
    int width, height;
    int low, high;      // codes that count as gray
    int coloured;       // 0; set if any sample is not gray
    int unused;
};

// Followed by `count` Tint.
struct TintJob {
    int count, unused;
};

template <typename Word> __device__ __forceinline__ bool tinted(const Tint& t, int x, int y0) {
    bool coloured = false;
    for (int y = y0; y < y0 + TINT_ROWS && y < t.height; ++y) {
        int a = (int)behind<Word>((const void*)t.at[0], (i64)y * t.pitch)[x * t.step] >> t.shift;
        int b = (int)behind<Word>((const void*)t.at[1], (i64)y * t.pitch)[x * t.step] >> t.shift;
        coloured |= a < t.low || a > t.high || b < t.low || b > t.high;
    }
    return coloured;
}

extern "C" __global__ void tint(TintJob* job) {
    int x = column(), y = line() * TINT_ROWS;
    if ((int)blockIdx.z >= job->count) return;
    Tint& t = ((Tint*)(job + 1))[blockIdx.z];
    if (x >= t.width || y >= t.height) return;
    // Concurrent writes store the same value.
    if (t.word == 1 ? tinted<u8>(t, x, y) : tinted<u16>(t, x, y)) t.coloured = 1;
}

// ---- paste

// Components on one grid, to write.
struct Target {
    u64 at[3];
    int pitch, step, word, shift;  // as in Source
    int parts;
    int x, y;                     // of the first sample in memory, in its plane
    int dither_x[3], dither_y[3];
    float low[3], high[3];        // legal code values
    int unused;
};

// One face on one grid.
struct Patch {
    u64 values, mask;                // float32
    i64 plane;                       // words between channels of the values
    int pitch, width, height;        // words, samples; zeros outside
    int channels;
    int mask_pitch, mask_width, mask_height;
    int gated;                       // no writes where the mask is 0
    int cubic;                       // m maps to values doubled by a cubic
    int target;
    int box[4];                      // samples of the plane that may change: x0, y0, x1, y1
    int near, nears;                 // the list of patches whose boxes overlap this one, including itself
    float weights[3][3];             // from channels to components
    float m[6], k[6];                // from samples, relative to the box's first, to values and to the mask
    i64 coloured;                    // offset in bytes from the job to an int that is 0 to skip the patch; or 0
};

// Followed by `count` Patch, then by the lists of ints.
struct PasteJob {
    int count, unused;
    Target targets[2];
};

__device__ __forceinline__ u32 mix(u32 value) {
    u32 x = value + 0x9E3779B9u;
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

__device__ __forceinline__ float dither(int x, int y) {
    u32 tile = mix((u32)(x & 255) + 256u * (u32)(y & 255)) >> 25;
    return ((float)tile + 0.5f) * 0.0078125f - 0.5f;
}

__device__ __forceinline__ bool holds(const Patch& p, int x, int y) {
    return x >= p.box[0] && y >= p.box[1] && x < p.box[2] && y < p.box[3];
}

// Four neighbours, zeros outside.
struct Corner {
    bool any, left, right, upper, lower;
    int x, y;
    float ax, ay;
};

__device__ __forceinline__ Corner corner(const float* m, float x, float y, int width, int height) {
    float sx = fmaf(m[0], x, y * m[1] + m[2]), sy = fmaf(m[3], x, y * m[4] + m[5]);
    float fx = floorf(sx), fy = floorf(sy);
    Corner c;
    c.x = (int)fx, c.y = (int)fy, c.ax = sx - fx, c.ay = sy - fy;
    c.left = c.x >= 0 && c.x < width, c.right = c.x >= -1 && c.x < width - 1;
    c.upper = c.y >= 0 && c.y < height, c.lower = c.y >= -1 && c.y < height - 1;
    c.any = (c.left || c.right) && (c.upper || c.lower);
    return c;
}

__device__ __forceinline__ void four(const Corner& c, const float* plane, int pitch, float* v) {
    const float* at = plane + (i64)c.y * pitch + c.x;
    v[0] = c.upper && c.left ? at[0] : 0.0f;
    v[1] = c.upper && c.right ? at[1] : 0.0f;
    v[2] = c.lower && c.left ? at[pitch] : 0.0f;
    v[3] = c.lower && c.right ? at[pitch + 1] : 0.0f;
}

__device__ __forceinline__ float blend(const Corner& c, const float* v) {
    return lerp(lerp(v[0], v[1], c.ax), lerp(v[2], v[3], c.ax), c.ay);
}

// Weights of five neighbours from floor((k - 1) / 2) - 1, for sample k + a of a line doubled by a cubic.
__device__ __forceinline__ void cubic_weights(int k, float a, int doubled, float* w) {
    const float outer = -0.10546875f, inner = 0.87890625f, next = 0.26171875f, far = -0.03515625f;
    float p = k >= 0 && k < doubled ? 1.0f - a : 0.0f, q = k >= -1 && k < doubled - 1 ? a : 0.0f;
    if (k & 1) {  // samples k, k + 1 are at +1/4, -1/4 from their nearest ones
        w[0] = p * outer + q * far, w[1] = p * inner + q * next, w[2] = p * next + q * inner;
        w[3] = p * far + q * outer, w[4] = 0.0f;
    } else {
        w[0] = p * far, w[1] = p * next + q * outer, w[2] = p * inner + q * inner;
        w[3] = p * outer + q * next, w[4] = q * far;
    }
}

// Reads the channels of a patch's values at a sample; false if it has none.
__device__ __forceinline__ bool values_at(const Patch& p, float x, float y, float* v) {
    const float* values = (const float*)p.values;
    if (!p.cubic) {
        Corner c = corner(p.m, x, y, p.width, p.height);
        if (!c.any) return false;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            if (k >= p.channels) continue;
            float near[4];
            four(c, values + k * p.plane, p.pitch, near);
            v[k] = blend(c, near);
        }
        return true;
    }
    Corner c = corner(p.m, x, y, 2 * p.width, 2 * p.height);
    if (!c.any) return false;
    float wx[5], wy[5];
    cubic_weights(c.x, c.ax, 2 * p.width, wx);
    cubic_weights(c.y, c.ay, 2 * p.height, wy);
    int left = ((c.x - 1) >> 1) - 1, top = ((c.y - 1) >> 1) - 1;
#pragma unroll 1
    for (int k = 0; k < p.channels; ++k) {
        float sum = 0.0f;
#pragma unroll 1
        for (int j = 0; j < 5; ++j) {
            const float* row = values + k * p.plane + (i64)clamp(top + j, 0, p.height - 1) * p.pitch;
            float part = 0.0f;
#pragma unroll
            for (int i = 0; i < 5; ++i) part += wx[i] * row[clamp(left + i, 0, p.width - 1)];
            sum += (j == 0 ? wy[0] : j == 1 ? wy[1] : j == 2 ? wy[2] : j == 3 ? wy[3] : wy[4]) * part;
        }
        if (k == 0) v[0] = sum;
        if (k == 1) v[1] = sum;
        if (k == 2) v[2] = sum;
    }
    return true;
}

__device__ __forceinline__ bool stays(const PasteJob* job, const Patch& p) {
    return p.coloured && !*behind<int>(job, p.coloured);
}

// A thread changes one sample of each component on a grid; blockIdx.z counts patches. Where boxes overlap, the first
// patch's thread adds all of them.
extern "C" __global__ void paste(const PasteJob* __restrict__ job) {
    if ((int)blockIdx.z >= job->count) return;
    const Patch* __restrict__ patches = behind<Patch>(job, sizeof(PasteJob));
    const Patch& own = patches[blockIdx.z];
    int x = own.box[0] + column(), y = own.box[1] + line();
    if (x >= own.box[2] || y >= own.box[3] || stays(job, own)) return;
    const int* nears = behind<int>(patches, (i64)job->count * sizeof(Patch)) + own.near;
    const Target& target = job->targets[own.target];
    float total[3] = {0.0f, 0.0f, 0.0f}, weight = 0.0f;
    bool first = true;
    for (int n = 0; n < own.nears; ++n) {
        const Patch& p = patches[nears[n]];
        if (!holds(p, x, y) || stays(job, p)) continue;
        if (first && nears[n] != (int)blockIdx.z) return;
        first = false;
        float at_x = (float)(x - p.box[0]), at_y = (float)(y - p.box[1]);
        if (p.gated) {
            Corner c = corner(p.k, at_x, at_y, p.mask_width, p.mask_height);
            if (!c.any) continue;
            float m[4], support[4];
            four(c, (const float*)p.mask, p.mask_pitch, m);
            for (int k = 0; k < 4; ++k) support[k] = m[k] > 0.0f ? 255.0f : 0.0f;
            if (!(blend(c, support) > 0.5f)) continue;
            weight += fmaxf(blend(c, m), 0.0f);
        }
        float v[3] = {0.0f, 0.0f, 0.0f};
        if (!values_at(p, at_x, at_y, v)) continue;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            if (k >= target.parts) continue;
            float d = p.weights[k][0] * v[0] + p.weights[k][1] * v[1] + p.weights[k][2] * v[2];
            total[k] += fabsf(d) < 1e30f ? d : 0.0f;  // also for NaN
        }
    }
    float share = fmaxf(weight, 1.0f);
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        if (k >= target.parts || total[k] == 0.0f) continue;  // dither alone changes nothing
        float add = total[k] / share + dither(x + target.dither_x[k], y + target.dither_y[k]);
        u8* at = (u8*)target.at[k] + (i64)(y - target.y) * target.pitch +
                 (i64)(x - target.x) * target.step * target.word;
        int word = target.word == 1 ? *at : *(u16*)at;
        float old = (float)(word >> target.shift);
        float now = clip(rintf(old + add), fminf(old, target.low[k]), fmaxf(old, target.high[k]));
        if (now == old) continue;
        word += ((int)now - (int)old) * (1 << target.shift);  // preserves the low bits
        if (target.word == 1) *at = (u8)word;
        else *(u16*)at = (u16)word;
    }
}
