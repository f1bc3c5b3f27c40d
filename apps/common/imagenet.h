/* SPDX-License-Identifier: Apache-2.0 */
/* The class order of ImageNet-1k: its 1000 WordNet synsets ("n01440764": tench) sorted by name, as
 * the folders of ILSVRC2012 sort. That is the order of the logits of every published network. */
#ifndef APPS_COMMON_IMAGENET_H
#define APPS_COMMON_IMAGENET_H

enum { IMAGENET_CLASSES = 1000 };

/* The digits of a name that is an n and eight digits; -1: it is not. */
int imagenet_offset(const char *name);

/* The class of a synset among the 1000; -1: it is none of them. */
int imagenet_class(const char *name);

#endif
