/* SPDX-License-Identifier: Apache-2.0 */
#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "imagenet.h"

/* ---- listing --------------------------------------------------------------------------------- */

/* The folders above the one that is being read. */
typedef struct chain {
    const struct chain *above;
    dev_t device;
    ino_t inode;
} chain;

static bool is_picture(const char *name)
{
    static const char *const endings[] = {"jpg", "jpeg", "jpe", "jfif", "png",  "bmp", "dib",
                                          "ppm", "pgm",  "pbm", "pnm",  "webp", "tif", "tiff"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++) {
        if (strcasecmp(dot + 1, endings[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Room for one more in a growing array. */
static bool grow(void **items, size_t *capacity, int count, size_t size)
{
    if ((size_t)count < *capacity) {
        return true;
    }
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(*items, wanted * size);
    if (grown) {
        *items = grown;
        *capacity = wanted;
    }
    return grown != NULL;
}

static char *join(const char *folder, const char *name)
{
    char *path = NULL;
    const char *slash = *folder && folder[strlen(folder) - 1] != '/' ? "/" : "";
    return asprintf(&path, "%s%s%s", folder, slash, name) < 0 ? NULL : path;
}

static int no_memory(const cli_options *options)
{
    return cli_fail(options, "out of memory");
}

static int read_folder(folder_set *set, const cli_options *options, const char *below, int folder,
                       const chain *above);

/* Of what stat fails for. A dangling link with a picture's name is a broken picture. */
static bool may_be_folder(const struct dirent *entry)
{
    bool open = entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN;
    return entry->d_type == DT_DIR || (open && !is_picture(entry->d_name));
}

/* `below` is taken over. folder -1: the entry lies in the root. */
static int take_entry(folder_set *set, const cli_options *options, char *below,
                      const struct dirent *entry, int folder, const chain *above)
{
    struct stat about;
    const char *name = entry->d_name;
    char *path = below ? join(set->root, below) : NULL;
    int result = path ? CLI_OK : no_memory(options);
    bool known = result == CLI_OK && stat(path, &about) == 0;
    if (result == CLI_OK && !known && may_be_folder(entry)) {
        result =
            cli_fail(options, "%s: cannot tell whether it is a folder: %s", path, strerror(errno));
    }
    free(path);
    if (known && S_ISDIR(about.st_mode)) {
        chain here = {above, about.st_dev, about.st_ino};
        if (folder < 0 && grow((void **)&set->folders, &set->folder_capacity, set->folder_count,
                               sizeof *set->folders)) {
            set->folders[set->folder_count++] = strdup(below);
            folder = set->folder_count - 1;
        }
        result = folder >= 0 && set->folders[folder]
                     ? read_folder(set, options, below, folder, &here)
                     : no_memory(options);
    } else if (result == CLI_OK && (!is_picture(name) || folder < 0)) {
        set->others += !is_picture(name);
        set->outside += is_picture(name);
    } else if (result == CLI_OK) {
        if (grow((void **)&set->pictures, &set->capacity, set->count, sizeof *set->pictures)) {
            set->pictures[set->count++] = (folder_picture){
                .path = below, .size = known ? about.st_size : -1, .folder = folder};
            return CLI_OK;
        }
        result = no_memory(options);
    }
    free(below);
    return result;
}

/* NULL at the end, with errno 0, or when the folder cannot be read any further. */
static struct dirent *next_entry(DIR *stream)
{
    struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(stream);
    } while (entry && entry->d_name[0] == '.');
    return entry;
}

static int read_folder(folder_set *set, const cli_options *options, const char *below, int folder,
                       const chain *here)
{
    for (const chain *c = here->above; c; c = c->above) {
        if (c->device == here->device && c->inode == here->inode) {
            return cli_fail(options, "%s/%s: a link to a folder that it lies in", set->root, below);
        }
    }
    char *path = join(set->root, below);
    DIR *stream = path ? opendir(path) : NULL;
    struct dirent *entry = NULL;
    int result = path ? CLI_OK : no_memory(options);
    while (stream && result == CLI_OK && (entry = next_entry(stream))) {
        result = cli_interrupted()
                     ? cli_fail(options, "stopped while %s was listed", set->root)
                     : take_entry(set, options, join(below, entry->d_name), entry, folder, here);
    }
    if (result == CLI_OK && errno) { /* of opendir or the last readdir */
        result = cli_fail(options, "%s: cannot list: %s", path, strerror(errno));
    }
    if (stream) {
        closedir(stream);
    }
    free(path);
    return result;
}

/* ---- order ----------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_pictures(const void *a, const void *b)
{
    const folder_picture *x = a, *y = b;
    return x->folder != y->folder ? (x->folder > y->folder) - (x->folder < y->folder)
                                  : strcmp(x->path, y->path);
}

/* Sorts the folders, gives pictures the new numbers, then sorts them. */
static bool sort(folder_set *set)
{
    char **before = calloc((size_t)set->folder_count + 1, sizeof *before);
    int *place = calloc((size_t)set->folder_count + 1, sizeof *place);
    if (before && place && set->folder_count) {
        memcpy(before, set->folders, (size_t)set->folder_count * sizeof *before);
        qsort(set->folders, (size_t)set->folder_count, sizeof *set->folders, compare_names);
        for (int i = 0; i < set->folder_count; i++) {
            char **found = bsearch(&before[i], set->folders, (size_t)set->folder_count,
                                   sizeof *set->folders, compare_names);
            place[i] = (int)(found - set->folders);
        }
        for (int i = 0; i < set->count; i++) {
            set->pictures[i].folder = place[set->pictures[i].folder];
        }
    }
    bool done = before && place;
    free(before);
    free(place);
    if (set->count) {
        qsort(set->pictures, (size_t)set->count, sizeof *set->pictures, compare_pictures);
    }
    return done;
}

int folder_read(folder_set *set, const cli_options *options, const char *root)
{
    struct stat about;
    *set = (folder_set){.root = root};
    if (stat(root, &about) != 0) {
        return cli_fail(options, "%s: %s", root, strerror(errno));
    }
    if (!S_ISDIR(about.st_mode)) {
        return cli_fail(options, "%s: is not a folder; want DIR/class/picture", root);
    }
    chain here = {NULL, about.st_dev, about.st_ino};
    int result = read_folder(set, options, "", -1, &here);
    if (result == CLI_OK && !sort(set)) {
        return no_memory(options);
    }
    if (result == CLI_OK && !set->count) {
        return cli_fail(options, "%s: no pictures; want DIR/class/picture%s", root,
                        set->outside ? ", and those there lie in no class folder" : "");
    }
    return result;
}

/* Where a file is or, not made yet, will be; NULL: nowhere. */
static char *real_place(const char *path)
{
    char *real = realpath(path, NULL);
    if (!real) {
        char *copy = strdup(path);
        real = copy ? realpath(dirname(copy), NULL) : NULL;
        free(copy);
    }
    return real;
}

bool folder_holds(const char *root, const char *path)
{
    char *outer = realpath(root, NULL), *inner = real_place(path);
    size_t length = outer ? strlen(outer) : 0;
    bool holds = outer && inner && strncmp(outer, inner, length) == 0 &&
                 (inner[length] == '/' || inner[length] == '\0' || outer[length - 1] == '/');
    free(outer);
    free(inner);
    return holds;
}

void folder_clear(folder_set *set)
{
    for (int i = 0; i < set->folder_count; i++) {
        free(set->folders[i]);
    }
    for (int i = 0; i < set->count; i++) {
        free(set->pictures[i].path);
    }
    free(set->folders);
    free(set->classes);
    free(set->pictures);
    *set = (folder_set){0};
}

/* ---- classes --------------------------------------------------------------------------------- */

static int find_folder(const folder_set *set, const char *name)
{
    char **found = bsearch(&name, set->folders, (size_t)set->folder_count, sizeof *set->folders,
                           compare_names);
    return found ? (int)(found - set->folders) : -1;
}

/* Whether it says "folder class" with other marks than a tab between; cuts it. */
static bool lacks_tab(const folder_set *set, char *line)
{
    size_t number = strlen(line);
    while (number && strchr("0123456789", line[number - 1])) {
        number--;
    }
    size_t end = number;
    while (end && strchr(" ,;", line[end - 1])) {
        end--;
    }
    bool two = end < number && line[number];
    line[end] = '\0';
    return two && find_folder(set, line) >= 0;
}

static bool has_tab(const labels *lines)
{
    for (int i = 0; i < lines->count; i++) {
        if (strchr(lines->names[i], '\t')) {
            return true;
        }
    }
    return false;
}

static int map_from_file(folder_set *set, const cli_options *options, const char *path, int classes)
{
    labels lines;
    vt_error error = {0};
    if (labels_lines(&lines, path, &error) != VT_OK) {
        return cli_fail(options, "--class-map: %s", error.message);
    }
    int result = CLI_OK, blank = 0; /* line */
    bool pairs = has_tab(&lines);
    for (int i = 0; i < lines.count && result == CLI_OK; i++) {
        char *tab = pairs ? strchr(lines.names[i], '\t') : NULL;
        int class = i;
        if (pairs && (!tab || !cli_number(tab + 1, 0, classes - 1, &class))) {
            result = cli_fail(options, "%s: line %d: want a folder, a tab and a class below %d",
                              path, i + 1, classes);
        } else if (class >= classes) {
            result = cli_fail(options, "%s has %d lines, the model %d classes", path, lines.count,
                              classes);
        }
        if (tab) {
            *tab = '\0';
        }
        int folder = result == CLI_OK ? find_folder(set, lines.names[i]) : -1;
        if (folder >= 0) {
            set->classes[folder] = class;
        } else if (!blank && lacks_tab(set, lines.names[i])) {
            blank = i + 1;
        }
    }
    labels_clear(&lines);
    for (int i = 0; i < set->folder_count && result == CLI_OK; i++) {
        if (set->classes[i] < 0) {
            result = blank ? cli_fail(options, "%s: line %d: want a tab between folder and class",
                                      path, blank)
                           : cli_fail(options, "%s does not name the folder '%s'", path,
                                      set->folders[i]);
        }
    }
    return result;
}

/* Equal but for '_' in a folder's name where the label has a blank. */
static bool same_name(const char *folder, const char *label)
{
    for (; *folder && *label; folder++, label++) {
        if (*folder != *label && !(*folder == '_' && *label == ' ')) {
            return false;
        }
    }
    return *folder == *label;
}

static int class_of_label(const char *folder, const vt_model *model, const labels *names)
{
    char buffer[32];
    int found = -1;
    for (int i = 0; i < vt_model_classes(model); i++) {
        if (same_name(folder, label_of(names, model, i, buffer))) {
            if (found >= 0) {
                return -1; /* two classes of one name: it says nothing */
            }
            found = i;
        }
    }
    return found;
}

static bool map_by_labels(folder_set *set, const vt_model *model, const labels *names)
{
    bool all = true;
    for (int i = 0; i < set->folder_count && all; i++) {
        set->classes[i] = class_of_label(set->folders[i], model, names);
        all = set->classes[i] >= 0;
    }
    return all;
}

static int count_folders(const folder_set *set, bool (*is)(const char *))
{
    int count = 0;
    for (int i = 0; i < set->folder_count; i++) {
        count += is(set->folders[i]);
    }
    return count;
}

static bool is_digits(const char *name)
{
    return name[strspn(name, "0123456789")] == '\0';
}

static bool is_synset(const char *name)
{
    return imagenet_offset(name) >= 0;
}

/* What to add where the folders do not fit a model that nobody chose. */
static const char *default_note(const cli_options *options)
{
    return options->golden || options->weights || options->model
               ? ""
               : "; these are the default weights: --model NAME or --weights FILE chooses others";
}

/* Two folders would be one class. A class map may say so, names that look alike do not. */
static int refuse_doubles(const folder_set *set, const cli_options *options, int classes)
{
    const char **first = calloc((size_t)classes, sizeof *first);
    int result = first ? CLI_OK : no_memory(options);
    for (int i = 0; i < set->folder_count && result == CLI_OK; i++) {
        const char **of_class = &first[set->classes[i]];
        if (*of_class) {
            result = cli_fail(options,
                              "folders '%s' and '%s' are both class %d; --class-map says otherwise",
                              *of_class, set->folders[i], set->classes[i]);
        }
        *of_class = set->folders[i];
    }
    free(first);
    return result;
}

/* Names the folders that are not what most of them are: "kind". */
static int refuse_odd(const folder_set *set, const cli_options *options, bool (*is)(const char *),
                      const char *kind)
{
    enum { SHOWN = 3 };
    char names[SHOWN * 300] = "", more[32] = "";
    int odd = 0;
    size_t length = 0;
    for (int i = 0; i < set->folder_count; i++) {
        if (!is(set->folders[i]) && odd++ < SHOWN) {
            length += (size_t)snprintf(names + length, sizeof names - length, "%s'%s'",
                                       length ? ", " : "", set->folders[i]);
        }
    }
    if (odd > SHOWN) {
        snprintf(more, sizeof more, " and %d more", odd - SHOWN);
    }
    return cli_fail(options,
                    "%s: %s%s: not %s, as the other %d class folders are; move what is no class "
                    "away, or --class-map says which class it is",
                    set->root, names, more, kind, set->folder_count - odd);
}

static int map_by_numbers(folder_set *set, const cli_options *options, int classes)
{
    for (int i = 0; i < set->folder_count; i++) {
        if (!cli_number(set->folders[i], 0, classes - 1, &set->classes[i])) {
            return cli_fail(options,
                            "folder '%s': folders of digits are class numbers, and the model's "
                            "end at %d; --class-map says otherwise%s",
                            set->folders[i], classes - 1, default_note(options));
        }
    }
    return refuse_doubles(set, options, classes);
}

static int map_by_synsets(folder_set *set, const cli_options *options)
{
    for (int i = 0; i < set->folder_count; i++) {
        set->classes[i] = imagenet_class(set->folders[i]);
        if (set->classes[i] < 0) {
            return cli_fail(options,
                            "folder '%s' is none of the 1000 synsets of ImageNet-1k; --class-map "
                            "says which class it is",
                            set->folders[i]);
        }
    }
    return CLI_OK;
}

int folder_map(folder_set *set, const cli_options *options, const vt_model *model,
               const labels *names, const char *map)
{
    const int classes = vt_model_classes(model);
    set->classes = malloc((size_t)set->folder_count * sizeof *set->classes);
    if (!set->classes) {
        return no_memory(options);
    }
    for (int i = 0; i < set->folder_count; i++) {
        set->classes[i] = -1;
    }
    if (map) {
        set->rule = "map";
        return map_from_file(set, options, map, classes);
    }
    const int count = set->folder_count, numbers = count_folders(set, is_digits),
              synsets = classes == IMAGENET_CLASSES ? count_folders(set, is_synset) : 0;
    if (numbers == count) {
        set->rule = "numbers";
        return map_by_numbers(set, options, classes);
    }
    if (synsets == count) {
        set->rule = "synsets";
        return map_by_synsets(set, options);
    }
    set->rule = "labels";
    if (map_by_labels(set, model, names)) {
        return refuse_doubles(set, options, classes);
    }
    if (synsets > count / 2) { /* even where there are 1000: in order they would be other classes */
        return refuse_odd(set, options, is_synset, "synsets");
    }
    set->rule = "sorted";
    for (int i = 0; i < count; i++) {
        set->classes[i] = i;
    }
    if (count == classes) {
        return CLI_OK;
    }
    if (numbers > count / 2) {
        return refuse_odd(set, options, is_digits, "class numbers");
    }
    return cli_fail(options,
                    "%s: %d class folders, and the model has %d classes: --class-map says which "
                    "folder is which class%s",
                    set->root, count, classes, default_note(options));
}
