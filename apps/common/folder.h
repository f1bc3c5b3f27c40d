/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of labelled pictures: DIR/class/picture, and which class of the model each folder is. */
#ifndef APPS_COMMON_FOLDER_H
#define APPS_COMMON_FOLDER_H

#include "cli.h"
#include "labels.h"

typedef struct folder_picture {
    char *path;   /* below the folder: "class/a/b.jpg" */
    int64_t size; /* bytes; -1: not known, the picture is broken */
    int folder;   /* index in `folders` */
} folder_picture;

typedef struct folder_set {
    const char *root;
    char **folders; /* names of the class folders, sorted bytewise */
    int *classes;   /* of the model, per folder */
    int folder_count;
    folder_picture *pictures; /* by folder, then sorted bytewise by path */
    int count;
    int others, outside; /* files that are no pictures by name; pictures in no class folder */
    const char *rule;    /* how the classes were found: "map", "numbers", "labels", ... */
    size_t folder_capacity, capacity;
} folder_set;

/* Lists the pictures below `root`. By name a picture ends with jpg, jpeg, jpe, jfif, png, bmp, dib,
 * ppm, pgm, pbm, pnm, and tif, tiff or webp, which the library refuses: they must be seen, not left
 * out. Names that begin with a dot are passed over. Folders inside a class folder belong to it.
 * Symbolic links are followed; one that leads back is an error, and so is all that may be a folder
 * and cannot be read. Ctrl-C stops it.
 * CLI_OK, or CLI_FAILED after a message. */
int folder_read(folder_set *set, const cli_options *options, const char *root);

/* Whether `path`, which need not be there yet, is `root` or lies below it. */
bool folder_holds(const char *root, const char *path);

/* Finds the class of each folder: the first of these that fits.
 *   map       `map` is given: line n is the folder of class n, or lines "folder TAB class"
 *   numbers   all names are digits: they are the classes
 *   synsets   all are WordNet synsets and the model has 1000 classes: ImageNet's order
 *   labels    all are names of classes (`names`, or what the weights carry; '_' for ' ')
 *   sorted    there are as many folders as classes: their order
 * By number or label no two folders are of one class, and where most folders are synsets the others
 * are named as odd. CLI_OK, or CLI_FAILED after a message. */
int folder_map(folder_set *set, const cli_options *options, const vt_model *model,
               const labels *names, const char *map);

void folder_clear(folder_set *set);

#endif
