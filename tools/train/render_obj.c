/*
 * render_obj: render a textured OBJ model from many directions as RGBA cut-outs.
 *
 *   render_obj MODEL.obj OUT_PREFIX [--views N] [--size PX] [--seed S] [--front]
 *              [--rotate "9 floats, row-major"] [--scale "width height depth"]
 *
 * Writes OUT_PREFIX_00.png, OUT_PREFIX_01.png ... with the model filling the frame. Yaw covers the
 * full circle evenly (or +-60 degrees with --front, for things that hang on a wall), pitch and
 * light come from a seeded generator, so the same arguments always give the same pictures.
 *
 * A plain z-buffer: perspective-correct texture look-up, one directional light plus a sky term,
 * opaque faces first, then transparent ones blended over them, 2x2 supersampling.
 * Build: cc -O2 -o render_obj render_obj.c -I/usr/include/stb -lm     (Debian: libstb-dev)
 */
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STB_IMAGE_IMPLEMENTATION
#include "stb_image.h"
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include "stb_image_write.h"

enum { SUPERSAMPLE = 2, LINE_MAX_LEN = 1 << 16, MAX_SIZE = 1024 };

typedef struct {
    float x, y, z;
} Vec3;
typedef struct {
    float u, v;
} Vec2;

typedef struct {
    char name[256];
    float color[3];
    float opacity;
    float gloss;           /* strength of the highlight */
    unsigned char *texels; /* RGBA, or NULL */
    int width, height;
} Material;

typedef struct {
    int v[3], t[3], n[3];
    int material;
} Face;

/* A growing array of fixed-size items. */
typedef struct {
    char *data;
    size_t count, capacity, item;
} List;

typedef struct {
    List points, texcoords, normals, faces, materials;
} Model;

typedef struct {
    float r, g, b, a, z;
} Pixel;

static void *list_add(List *list)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 256;
        list->data = realloc(list->data, list->capacity * list->item);
        if (!list->data) {
            fprintf(stderr, "out of memory\n");
            exit(1);
        }
    }
    void *slot = list->data + list->count++ * list->item;
    memset(slot, 0, list->item);
    return slot;
}

static Vec3 sub(Vec3 a, Vec3 b)
{
    return (Vec3){a.x - b.x, a.y - b.y, a.z - b.z};
}
static float dot(Vec3 a, Vec3 b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
static Vec3 cross(Vec3 a, Vec3 b)
{
    return (Vec3){a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
static Vec3 normalize(Vec3 a)
{
    float length = sqrtf(dot(a, a));
    return length > 1e-20f ? (Vec3){a.x / length, a.y / length, a.z / length} : (Vec3){0, 1, 0};
}
static Vec3 transform(const float m[9], Vec3 p)
{
    return (Vec3){m[0] * p.x + m[1] * p.y + m[2] * p.z, m[3] * p.x + m[4] * p.y + m[5] * p.z,
                  m[6] * p.x + m[7] * p.y + m[8] * p.z};
}

static uint32_t random_state = 1;
static float random_in(float low, float high)
{
    random_state = random_state * 1664525u + 1013904223u;
    return low + (high - low) * (float)(random_state >> 8) / 16777216.0f;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Path of `name` in the folder of `base`. */
static void sibling(char *out, size_t size, const char *base, const char *name)
{
    const char *slash = strrchr(base, '/');
    snprintf(out, size, "%.*s%s", slash ? (int)(slash - base + 1) : 0, base, name);
    for (char *c = out; *c; c++)
        if (*c == '\\')
            *c = '/';
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = 0;
    return text;
}

static void read_materials(Model *model, const char *obj_path, const char *name)
{
    char path[4096], line[4096];
    sibling(path, sizeof path, obj_path, name);
    FILE *file = fopen(path, "r");
    Material *m = NULL;
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) {
        char *text = trim(line);
        float value, rgb[3];
        if (!strncmp(text, "newmtl ", 7)) {
            m = list_add(&model->materials);
            snprintf(m->name, sizeof m->name, "%s", trim(text + 7));
            m->color[0] = m->color[1] = m->color[2] = 0.7f;
            m->opacity = 1;
        } else if (!m) {
            continue;
        } else if (sscanf(text, "Kd %f %f %f", rgb, rgb + 1, rgb + 2) == 3) {
            memcpy(m->color, rgb, sizeof rgb);
        } else if (sscanf(text, "Ks %f %f %f", rgb, rgb + 1, rgb + 2) == 3) {
            m->gloss = 0.4f * (rgb[0] + rgb[1] + rgb[2]) / 3;
        } else if (sscanf(text, "d %f", &value) == 1) {
            m->opacity = value;
        } else if (!strncmp(text, "map_Kd ", 7)) {
            char texture[4096];
            int channels;
            sibling(texture, sizeof texture, obj_path, trim(text + 7));
            m->texels = stbi_load(texture, &m->width, &m->height, &channels, 4);
        }
    }
    fclose(file);
}

/* One corner "v", "v/t", "v//n" or "v/t/n"; negative numbers count from the end. */
static char *read_corner(char *text, const Model *model, int index[3])
{
    const long counts[3] = {(long)model->points.count, (long)model->texcoords.count,
                            (long)model->normals.count};
    for (int k = 0; k < 3; k++) {
        char *end;
        long value = strtol(text, &end, 10);
        index[k] = -1;
        if (end != text) {
            value = value < 0 ? counts[k] + value : value - 1;
            index[k] = value >= 0 && value < counts[k] ? (int)value : -1;
        }
        text = end;
        if (*text != '/') {
            for (k++; k < 3; k++)
                index[k] = -1;
            break;
        }
        text++;
    }
    return text;
}

static int read_model(Model *model, const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = malloc(LINE_MAX_LEN);
    int material = -1;
    if (!file || !line)
        return -1;
    while (fgets(line, LINE_MAX_LEN, file)) {
        char *text = trim(line);
        if (!strncmp(text, "v ", 2)) {
            Vec3 *p = list_add(&model->points);
            if (sscanf(text + 2, "%f %f %f", &p->x, &p->y, &p->z) != 3)
                return -1;
        } else if (!strncmp(text, "vt ", 3)) {
            Vec2 *t = list_add(&model->texcoords);
            sscanf(text + 3, "%f %f", &t->u, &t->v);
        } else if (!strncmp(text, "vn ", 3)) {
            Vec3 *n = list_add(&model->normals);
            sscanf(text + 3, "%f %f %f", &n->x, &n->y, &n->z);
        } else if (!strncmp(text, "mtllib ", 7)) {
            read_materials(model, path, trim(text + 7));
        } else if (!strncmp(text, "usemtl ", 7)) {
            const Material *m = (const Material *)model->materials.data;
            material = -1;
            for (size_t i = 0; i < model->materials.count; i++)
                if (!strcmp(m[i].name, trim(text + 7)))
                    material = (int)i;
        } else if (!strncmp(text, "f ", 2)) {
            int corner[3][3], n = 0; /* a fan: first, previous and current corner */
            for (char *c = text + 2; *c;) {
                while (isspace((unsigned char)*c))
                    c++;
                if (!*c)
                    break;
                char *next = read_corner(c, model, corner[n < 2 ? n : 2]);
                if (next == c || corner[n < 2 ? n : 2][0] < 0)
                    break;
                c = next;
                if (n >= 2) {
                    Face *f = list_add(&model->faces);
                    for (int k = 0; k < 3; k++) {
                        f->v[k] = corner[k][0];
                        f->t[k] = corner[k][1];
                        f->n[k] = corner[k][2];
                    }
                    f->material = material;
                    memcpy(corner[1], corner[2], sizeof corner[1]);
                }
                n++;
            }
        }
    }
    free(line);
    fclose(file);
    return model->faces.count ? 0 : -1;
}

/* Rotate, stretch the bounding box to `scale`, centre it and shrink the model to unit radius. */
static void normalize_model(Model *model, const float rotate[9], const float scale[3])
{
    Vec3 *p = (Vec3 *)model->points.data, *n = (Vec3 *)model->normals.data;
    float low[3] = {FLT_MAX, FLT_MAX, FLT_MAX}, high[3] = {-FLT_MAX, -FLT_MAX, -FLT_MAX};
    float stretch[3], radius = 0;
    for (size_t i = 0; i < model->points.count; i++) {
        p[i] = transform(rotate, p[i]);
        const float xyz[3] = {p[i].x, p[i].y, p[i].z};
        for (int k = 0; k < 3; k++) {
            low[k] = fminf(low[k], xyz[k]);
            high[k] = fmaxf(high[k], xyz[k]);
        }
    }
    for (int k = 0; k < 3; k++) {
        float extent = high[k] - low[k];
        stretch[k] = scale[k] > 0 && extent > 1e-9f ? scale[k] / extent : 1;
    }
    for (size_t i = 0; i < model->points.count; i++) {
        p[i].x = (p[i].x - (low[0] + high[0]) / 2) * stretch[0];
        p[i].y = (p[i].y - (low[1] + high[1]) / 2) * stretch[1];
        p[i].z = (p[i].z - (low[2] + high[2]) / 2) * stretch[2];
        radius = fmaxf(radius, sqrtf(dot(p[i], p[i])));
    }
    for (size_t i = 0; i < model->points.count; i++)
        p[i] = (Vec3){p[i].x / radius, p[i].y / radius, p[i].z / radius};
    for (size_t i = 0; i < model->normals.count; i++)
        n[i] = normalize(transform(rotate, n[i]));
}

/* ---- drawing --------------------------------------------------------------------------------- */

static void sample_texture(const Material *m, float u, float v, float rgba[4])
{
    u -= floorf(u);
    v -= floorf(v);
    float x = u * (float)m->width - 0.5f, y = (1 - v) * (float)m->height - 0.5f;
    int x0 = (int)floorf(x), y0 = (int)floorf(y);
    float fx = x - (float)x0, fy = y - (float)y0;
    memset(rgba, 0, 4 * sizeof *rgba);
    for (int k = 0; k < 4; k++) {
        int xi = (x0 + (k & 1) + m->width) % m->width, yi = (y0 + (k >> 1) + m->height) % m->height;
        float weight = ((k & 1) ? fx : 1 - fx) * ((k >> 1) ? fy : 1 - fy) / 255.0f;
        const unsigned char *texel = m->texels + 4 * ((size_t)yi * (size_t)m->width + (size_t)xi);
        for (int c = 0; c < 4; c++)
            rgba[c] += weight * (float)texel[c];
    }
}

typedef struct {
    Vec3 *eye;
    Vec3 *screen;
    Vec3 light;
    int size;
    Pixel *pixels;
} View;

static void draw_face(const Model *model, const View *view, const Face *f, const float camera[9],
                      int transparent)
{
    static const Material plain = {"", {0.7f, 0.7f, 0.7f}, 1, 0.1f, NULL, 0, 0};
    const Material *m =
        f->material < 0 ? &plain : (const Material *)model->materials.data + f->material;
    if (m->opacity < 0.02f || (m->opacity < 0.98f) != transparent)
        return;
    const Vec3 a = view->screen[f->v[0]], b = view->screen[f->v[1]], c = view->screen[f->v[2]];
    float area = (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
    if (fabsf(area) < 1e-9f)
        return;
    const Vec3 face_normal = normalize(cross(sub(view->eye[f->v[1]], view->eye[f->v[0]]),
                                             sub(view->eye[f->v[2]], view->eye[f->v[0]])));
    Vec3 corner_normal[3];
    for (int k = 0; k < 3; k++) {
        corner_normal[k] = f->n[k] < 0
                               ? face_normal
                               : transform(camera, ((const Vec3 *)model->normals.data)[f->n[k]]);
    }
    int x_min = (int)fmaxf(0, floorf(fminf(a.x, fminf(b.x, c.x))));
    int x_max = (int)fminf((float)view->size - 1, ceilf(fmaxf(a.x, fmaxf(b.x, c.x))));
    int y_min = (int)fmaxf(0, floorf(fminf(a.y, fminf(b.y, c.y))));
    int y_max = (int)fminf((float)view->size - 1, ceilf(fmaxf(a.y, fmaxf(b.y, c.y))));
    for (int y = y_min; y <= y_max; y++) {
        for (int x = x_min; x <= x_max; x++) {
            float px = (float)x + 0.5f, py = (float)y + 0.5f, w[3];
            w[0] = ((b.x - px) * (c.y - py) - (b.y - py) * (c.x - px)) / area;
            w[1] = ((c.x - px) * (a.y - py) - (c.y - py) * (a.x - px)) / area;
            w[2] = 1 - w[0] - w[1];
            if (w[0] < 0 || w[1] < 0 || w[2] < 0)
                continue;
            /* screen z holds 1 / distance, which is linear on the screen */
            float inverse = w[0] * a.z + w[1] * b.z + w[2] * c.z;
            Pixel *pixel = view->pixels + (size_t)y * (size_t)view->size + (size_t)x;
            if (inverse <= pixel->z)
                continue;
            w[0] *= a.z / inverse;
            w[1] *= b.z / inverse;
            w[2] *= c.z / inverse;
            float rgba[4] = {m->color[0], m->color[1], m->color[2], 1};
            if (m->texels && f->t[0] >= 0 && f->t[1] >= 0 && f->t[2] >= 0) {
                const Vec2 *t = (const Vec2 *)model->texcoords.data;
                float u = w[0] * t[f->t[0]].u + w[1] * t[f->t[1]].u + w[2] * t[f->t[2]].u;
                float v = w[0] * t[f->t[0]].v + w[1] * t[f->t[1]].v + w[2] * t[f->t[2]].v;
                sample_texture(m, u, v, rgba);
                if (rgba[3] < 0.5f)
                    continue;
            }
            Vec3 n = {0, 0, 0};
            for (int k = 0; k < 3; k++) {
                n.x += w[k] * corner_normal[k].x;
                n.y += w[k] * corner_normal[k].y;
                n.z += w[k] * corner_normal[k].z;
            }
            n = normalize(n);
            if (n.z < 0)
                n = (Vec3){-n.x, -n.y, -n.z}; /* two-sided */
            float diffuse = fmaxf(0, dot(n, view->light));
            float shade = 0.42f + 0.16f * n.y + 0.62f * diffuse;
            float highlight =
                m->gloss * powf(fmaxf(0, 2 * dot(n, view->light) * n.z - view->light.z), 20);
            float alpha = transparent ? fmaxf(m->opacity, 0.15f) : 1;
            pixel->r += alpha * (rgba[0] * shade + highlight - pixel->r);
            pixel->g += alpha * (rgba[1] * shade + highlight - pixel->g);
            pixel->b += alpha * (rgba[2] * shade + highlight - pixel->b);
            pixel->a += alpha * (1 - pixel->a);
            if (!transparent)
                pixel->z = inverse;
        }
    }
}

/* Yaw about the vertical axis, then pitch: rows are the camera's right, up and backward axes. */
static void look_from(float yaw, float pitch, float m[9])
{
    float cy = cosf(yaw), sy = sinf(yaw), cp = cosf(pitch), sp = sinf(pitch);
    const float rows[9] = {cy, 0, -sy, -sp * sy, cp, -sp * cy, cp * sy, sp, cp * cy};
    memcpy(m, rows, sizeof rows);
}

static void render(const Model *model, View *view, float yaw, float pitch, float distance)
{
    float camera[9], low[2] = {FLT_MAX, FLT_MAX}, high[2] = {-FLT_MAX, -FLT_MAX};
    const size_t pixels = (size_t)view->size * (size_t)view->size;
    look_from(yaw, pitch, camera);
    memset(view->pixels, 0, pixels * sizeof *view->pixels);
    for (size_t i = 0; i < model->points.count; i++) {
        Vec3 e = transform(camera, ((const Vec3 *)model->points.data)[i]);
        float inverse = 1 / (distance - e.z);
        view->eye[i] = e;
        view->screen[i] = (Vec3){e.x * inverse, -e.y * inverse, inverse};
        low[0] = fminf(low[0], e.x * inverse);
        high[0] = fmaxf(high[0], e.x * inverse);
        low[1] = fminf(low[1], -e.y * inverse);
        high[1] = fmaxf(high[1], -e.y * inverse);
    }
    /* fit the projection into the frame */
    float fit = 0.98f * (float)view->size / fmaxf(high[0] - low[0], high[1] - low[1]);
    for (size_t i = 0; i < model->points.count; i++) {
        Vec3 *s = view->screen + i;
        s->x = (s->x - (low[0] + high[0]) / 2) * fit + (float)view->size / 2;
        s->y = (s->y - (low[1] + high[1]) / 2) * fit + (float)view->size / 2;
    }
    view->light = normalize((Vec3){random_in(-1, 1), random_in(0.2f, 1.2f), random_in(0.3f, 1)});
    for (int transparent = 0; transparent < 2; transparent++)
        for (size_t i = 0; i < model->faces.count; i++)
            draw_face(model, view, (const Face *)model->faces.data + i, camera, transparent);
}

/* Average the supersampled pixels and write the PNG; its colours are not premultiplied. */
static int write_picture(const View *view, const char *path)
{
    static unsigned char out[4 * MAX_SIZE * MAX_SIZE];
    int size = view->size / SUPERSAMPLE;
    for (int y = 0; y < size; y++) {
        for (int x = 0; x < size; x++) {
            Pixel sum = {0, 0, 0, 0, 0};
            for (int k = 0; k < SUPERSAMPLE * SUPERSAMPLE; k++) {
                int sx = x * SUPERSAMPLE + k % SUPERSAMPLE, sy = y * SUPERSAMPLE + k / SUPERSAMPLE;
                const Pixel *p = view->pixels + (size_t)sy * (size_t)view->size + (size_t)sx;
                sum.r += p->r;
                sum.g += p->g;
                sum.b += p->b;
                sum.a += p->a;
            }
            float scale = sum.a > 0 ? 255 / sum.a : 0;
            unsigned char *o = out + 4 * ((size_t)y * (size_t)size + (size_t)x);
            o[0] = (unsigned char)fminf(255, sum.r * scale + 0.5f);
            o[1] = (unsigned char)fminf(255, sum.g * scale + 0.5f);
            o[2] = (unsigned char)fminf(255, sum.b * scale + 0.5f);
            o[3] = (unsigned char)fminf(255, 255 * sum.a / (SUPERSAMPLE * SUPERSAMPLE) + 0.5f);
        }
    }
    return stbi_write_png(path, size, size, 4, out, 4 * size);
}

int main(int argc, char **argv)
{
    const float pi = 3.14159265f;
    float rotate[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, scale[3] = {0, 0, 0};
    int views = 16, size = 160, front = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: render_obj MODEL.obj OUT_PREFIX [--views N] [--size PX] [--seed S]"
                        " [--front] [--rotate \"9 floats\"] [--scale \"w h d\"]\n");
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--front")) {
            front = 1;
            continue;
        }
        if (!strcmp(argv[i], "--views"))
            views = atoi(value);
        else if (!strcmp(argv[i], "--size"))
            size = atoi(value);
        else if (!strcmp(argv[i], "--seed"))
            random_state = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--rotate"))
            sscanf(value, "%f %f %f %f %f %f %f %f %f", rotate, rotate + 1, rotate + 2, rotate + 3,
                   rotate + 4, rotate + 5, rotate + 6, rotate + 7, rotate + 8);
        else if (!strcmp(argv[i], "--scale"))
            sscanf(value, "%f %f %f", scale, scale + 1, scale + 2);
        else {
            fprintf(stderr, "unknown option %s\n", argv[i]);
            return 2;
        }
        i++;
    }
    if (size < 8 || size > MAX_SIZE || views < 1) {
        fprintf(stderr, "bad size or number of views\n");
        return 2;
    }

    Model model = {{NULL, 0, 0, sizeof(Vec3)},
                   {NULL, 0, 0, sizeof(Vec2)},
                   {NULL, 0, 0, sizeof(Vec3)},
                   {NULL, 0, 0, sizeof(Face)},
                   {NULL, 0, 0, sizeof(Material)}};
    if (read_model(&model, argv[1])) {
        fprintf(stderr, "cannot read %s\n", argv[1]);
        return 1;
    }
    normalize_model(&model, rotate, scale);

    View view = {NULL, NULL, {0, 0, 1}, size * SUPERSAMPLE, NULL};
    view.eye = malloc(model.points.count * sizeof(Vec3));
    view.screen = malloc(model.points.count * sizeof(Vec3));
    view.pixels = malloc((size_t)view.size * (size_t)view.size * sizeof(Pixel));
    if (!view.eye || !view.screen || !view.pixels) {
        fprintf(stderr, "out of memory\n");
        return 1;
    }
    for (int i = 0; i < views; i++) {
        float turn = ((float)i + random_in(0, 1)) / (float)views;
        float yaw = front ? (turn - 0.5f) * 2 * pi / 3 : (turn - 0.5f) * 2 * pi;
        float up = random_in(0, 1);
        float pitch = (-8 + 48 * up * up) * pi / 180; /* mostly near eye level */
        render(&model, &view, yaw, pitch, random_in(2.2f, 5));
        char path[4096];
        snprintf(path, sizeof path, "%s_%02d.png", argv[2], i);
        if (!write_picture(&view, path)) {
            fprintf(stderr, "cannot write %s\n", path);
            return 1;
        }
    }
    return 0;
}
